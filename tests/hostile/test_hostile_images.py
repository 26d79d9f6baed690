"""Picture files of every odd and hostile kind: the pixels Pillow gives, or one clear clause, within bounded memory."""

import multiprocessing
import os
import resource
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lshfm.datasets.images import FileImages
from lshfm.datasets.split import BrokenImage

pytestmark = pytest.mark.timeout(60)

Build = Callable[[Path], object]
NOISE = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)


def noise(mode: str = "RGB") -> Image.Image:
    return Image.fromarray(NOISE).convert(mode)


def encoded(format: str, image: Image.Image | None = None, **options: object) -> bytes:
    file = BytesIO()
    (image or noise()).save(file, format, **options)
    return file.getvalue()


def picture(format: str, mode: str = "RGB", **options: object) -> Build:
    return lambda path: path.write_bytes(encoded(format, noise(mode), **options))


def drawn(size: tuple[int, int]) -> Build:
    """Noise of this size: a line of pixels has a scale of its own."""
    values = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return lambda path: path.write_bytes(encoded("PNG", Image.fromarray(values)))


def cut(format: str, part: float, **options: object) -> Build:
    def build(path: Path) -> None:
        data = encoded(format, **options)
        path.write_bytes(data[: int(part * len(data))])

    return build


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, color: int, body: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def values16(channels: int) -> np.ndarray:
    """0, 255, 256, 65535 and others: what clipping at 255 would make all white."""
    values = np.random.default_rng(3).integers(0, 65536, (6, 5 * channels)).astype(">u2")
    values[0, :4] = 0, 255, 256, 65535
    return values


def png16(channels: int) -> Build:
    rows = b"".join(b"\0" + row.tobytes() for row in values16(channels))
    return lambda path: path.write_bytes(png(5, 6, 16, {1: 0, 3: 2}[channels], zlib.compress(rows)))


def tiff32(dtype: type) -> Build:
    return lambda path: path.write_bytes(encoded("TIFF", Image.fromarray(np.arange(12, dtype=dtype).reshape(3, 4))))


def inverted_cmyk(path: Path) -> None:
    """As Photoshop writes it: an Adobe marker, transform 0, all inks inverted."""
    data = encoded("JPEG", noise("CMYK"), quality=95)
    assert b"Adobe\0" in data
    path.write_bytes(data)


def rotated(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path.write_bytes(encoded("JPEG", exif=exif))


def transparent_palette(path: Path) -> None:
    image = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).convert("P")
    path.write_bytes(encoded("PNG", image, transparency=bytes(range(64))))


def text(content: str) -> Build:
    return lambda path: path.write_text(content)


def raw(content: bytes) -> Build:
    return lambda path: path.write_bytes(content)


def link_outside(path: Path) -> None:
    outside = path.parent.parent / "outside.png"
    outside.write_bytes(encoded("PNG"))
    path.symlink_to(outside)


def loop(path: Path) -> None:
    other = path.with_name("other")
    other.symlink_to(path)
    path.symlink_to(other)


def nothing(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)


GOOD: dict[str, tuple[str, Build]] = {
    "PNG called jpg": ("a.jpg", picture("PNG")),
    "JPEG called png": ("a.png", picture("JPEG")),
    "no ending": ("a", picture("PNG")),
    "grey JPEG": ("a.jpg", picture("JPEG", "L")),
    "progressive JPEG": ("a.jpg", picture("JPEG", progressive=True)),
    "CMYK JPEG": ("a.jpg", inverted_cmyk),
    "CMYK TIFF": ("a.tif", picture("TIFF", "CMYK")),
    "YCbCr TIFF": ("a.tif", picture("TIFF", "YCbCr")),
    "LAB TIFF": ("a.tif", lambda path: path.write_bytes(encoded("TIFF", Image.new("LAB", (9, 7), (128, 10, 200))))),
    "16-bit colour": ("a.png", png16(3)),
    "palette": ("a.png", picture("PNG", "P")),
    "published transparency": ("a.jpg", transparent_palette),
    "grey and opaque alpha": ("a.png", picture("PNG", "LA")),
    "colour and opaque alpha": ("a.png", picture("PNG", "RGBA")),
    "1 bit": ("a.png", picture("PNG", "1")),
    "published, EXIF-rotated": ("a.jpg", rotated),
    "one pixel": ("a.png", drawn((1, 1))),
    "a row": ("a.png", drawn((20_000, 1))),
    "a column": ("a.png", drawn((1, 20_000))),
    "GIF": ("a.gif", picture("GIF", "P")),
    "animated GIF": ("a.gif", picture("GIF", "P", save_all=True, append_images=[noise("P").rotate(180)])),
    "BMP": ("a.bmp", picture("BMP")),
    "WebP": ("a.webp", picture("WEBP")),
    "trailing rubbish": ("a.jpg", lambda path: path.write_bytes(encoded("JPEG") + b"<html>" * 100)),
    "line break in the name": ("a\nb.png", picture("PNG")),
    "other letters in the name": ("画像 ñ \u202e.png", picture("PNG")),
    "a name that is no UTF-8": (os.fsdecode(b"\xff\xfe.png"), picture("PNG")),
    "a leading dash": ("-rf.png", picture("PNG")),
    "a link outside": ("a.png", link_outside),
}
BAD: dict[str, tuple[str, Build, str]] = {
    "JPEG of 2 bytes": ("a.jpg", raw(b"\xff\xd8"), "is not an image that Pillow reads"),
    "JPEG cut at 10 %": ("a.jpg", cut("JPEG", 0.1), "cannot be read: Truncated File Read"),
    "JPEG cut at 50 %": ("a.jpg", cut("JPEG", 0.5), "cannot be read: image file is truncated"),
    "JPEG cut at 90 %": ("a.jpg", cut("JPEG", 0.9), "cannot be read: image file is truncated"),
    "progressive JPEG cut": ("a.jpg", cut("JPEG", 0.8, progressive=True), "cannot be read: image file is truncated"),
    "PNG cut": ("a.png", cut("PNG", 0.5), "cannot be read: "),
    "GIF cut": ("a.gif", cut("GIF", 0.5), "truncated"),
    "WebP cut": ("a.webp", cut("WEBP", 0.5), "cannot be read: could not create decoder object"),
    "empty": ("a.jpg", raw(b""), "is empty"),
    "zeros": ("a.jpg", raw(bytes(5000)), "is not an image that Pillow reads"),
    "text": ("a.jpg", text("<html>404 not found</html>"), "is not an image that Pillow reads"),
    "SVG": ("a.png", text('<svg xmlns="http://www.w3.org/2000/svg"/>'), "is not an image that Pillow reads"),
    "PNG of no width": ("a.png", raw(png(0, 5, 8, 2, b"")), "is not an image that Pillow reads"),
    "PNG of no data": ("a.png", raw(png(5, 5, 8, 2, b"")), "cannot be read: image file is truncated"),
    "32-bit whole numbers": ("a.tif", tiff32(np.int32), "holds 32-bit values"),
    "32-bit floats": ("a.tif", tiff32(np.float32), "holds 32-bit values"),
    "directory": ("a.jpg", lambda path: path.mkdir(), "is not a regular file"),
    "FIFO": ("a.jpg", os.mkfifo, "is not a regular file"),
    "missing": ("a.jpg", nothing, "cannot be read: No such file or directory"),
    "NUL in the name": ("a\0.jpg", nothing, "embedded null"),  # and byte, or character from Python 3.13 on
    "too long a name": ("a" * 300 + ".jpg", nothing, "cannot be read: File name too long"),
    "dangling link": ("a.jpg", lambda path: path.symlink_to("nowhere"), "cannot be read: No such file or directory"),
    "link loop": ("a.jpg", loop, "cannot be read: Too many levels of symbolic links"),
    "bomb by its header": (
        "a.png",
        raw(png(60_000, 60_000, 8, 2, zlib.compress(bytes(100)))),
        "has over 268 million pixels",
    ),
    "widest header": ("a.png", raw(png(2**31 - 1, 2**31 - 1, 8, 2, b"")), "has over 268 million pixels"),
    "one line of 10^8": ("a.png", raw(png(10**8, 1, 1, 0, b"")), "longest side may have"),
    "GIF of a huge screen": ("a.gif", raw(b"GIF89a\xff\xff\xff\xff\0\0\0;"), "is not an image that Pillow reads"),
}


def built(tmp_path: Path, name: str, build: Build) -> FileImages:
    """One picture, in a folder that a data set's root could be."""
    path = tmp_path / "root" / name
    path.parent.mkdir()
    build(path)
    return FileImages((path,))


def refused(images: FileImages) -> str:
    with pytest.raises(BrokenImage) as error:
        images.pixels(0, 8)
    assert error.value.where == images.where(0)
    assert "\n" not in str(error.value)
    assert "\0" not in str(error.value)
    return error.value.why


@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.filterwarnings("ignore:Palette images")
def test_pixels_are_pillows(tmp_path: Path, kind: str) -> None:
    images = FileImages(built(tmp_path, *GOOD[kind]).paths, upright="published" not in kind)
    pixels = images.pixels(0, 8)
    with Image.open(images.paths[0]) as image:
        expected = image.convert("RGB").resize((8, 8), Image.Resampling.BILINEAR)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, np.asarray(expected))


@pytest.mark.parametrize("kind", BAD)
def test_what_is_wrong_is_said(tmp_path: Path, kind: str) -> None:
    name, build, why = BAD[kind]
    assert why in refused(built(tmp_path, name, build))


def test_grey_of_16_bits_keeps_its_high_byte(tmp_path: Path) -> None:
    images = built(tmp_path, "a.png", png16(1))
    high = Image.fromarray((values16(1) >> 8).astype(np.uint8)).convert("RGB")
    np.testing.assert_array_equal(images.pixels(0, 4), np.asarray(high.resize((4, 4), Image.Resampling.BILINEAR)))


@pytest.mark.parametrize(
    ("inks", "seen"), [((255, 0, 0, 0), (0, 255, 255)), ((0, 0, 255, 0), (255, 255, 0)), ((0, 0, 0, 255), (0, 0, 0))]
)
def test_full_inks_are_their_colours(tmp_path: Path, inks: tuple[int, ...], seen: tuple[int, ...]) -> None:
    """Were the inversion that Adobe's marker tells of not heeded, cyan would be red."""
    images = built(tmp_path, "a.jpg", lambda path: Image.new("CMYK", (16, 16), inks).save(path, "JPEG", quality=95))
    assert np.abs(images.pixels(0, 8).astype(int) - seen).max() <= 4


def test_ghostscript_never_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools, ran = tmp_path / "tools", tmp_path / "ran"
    tools.mkdir()
    (tools / "gs").write_text(f"#!/bin/sh\ntouch {ran}\n")
    (tools / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    program = text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) run\n%%EOF\n")
    assert "is PostScript" in refused(built(tmp_path, "a.jpg", program))
    assert not ran.exists()


def peak_after(images: FileImages, ended: "multiprocessing.connection.Connection") -> None:
    """In a process of its own: what reading took at most, in MiB above what was there before."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with Image.open(BytesIO(encoded("PNG"))) as image:  # loads the plugins
        image.load()
    try:
        images.pixels(0, 8)
        said = "read"
    except BrokenImage as error:
        said = error.why
    ended.send((said, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024))


def bomb(width: int, height: int, color: int, channels: int) -> bytes:
    """A whole picture of zeros, packed a thousand times smaller."""
    packer = zlib.compressobj(9)
    row = bytes(1 + width * channels)
    body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    return png(width, height, 8, color, body)


BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "a large header": (lambda: png(60_000, 60_000, 8, 2, zlib.compress(bytes(100))), "has over 268 million pixels"),
    "a whole one": (lambda: bomb(20_000, 14_000, 0, 1), "has over 268 million pixels"),
    "a line": (lambda: bomb(2_000_000, 1, 2, 3), "longest side"),
    "a text chunk": (lambda: text_bomb(), "is damaged: Decompressed data too large"),
}


def text_bomb() -> bytes:
    """A good picture beside 300 MB of packed text."""
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(10**6)) for _ in range(300)) + packer.flush()
    good = encoded("PNG")
    return good[:33] + chunk(b"zTXt", b"a\0\0" + packed) + good[33:]


@pytest.mark.parametrize("kind", BOMBS)
def test_bombs_take_no_memory(tmp_path: Path, kind: str) -> None:
    make, why = BOMBS[kind]
    images = built(tmp_path, "a.png", raw(make()))
    assert images.paths[0].stat().st_size < 10**6
    receives, sends = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=peak_after, args=(images, sends))
    process.start()
    assert receives.poll(50)
    said, grown = receives.recv()
    process.join()
    assert why in said
    assert grown < 100
