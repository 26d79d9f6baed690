"""Pictures in files: pixels equal Pillow's, and whatever is wrong with a file is said."""

import contextlib
import hashlib
import json
import os
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from lshfm.datasets import images
from lshfm.datasets.images import FileImages, find_missing, refuse_missing
from lshfm.datasets.split import BrokenImage, Split
from lshfm.datasets.store import pixel_key
from lshfm.errors import InputError


def published(path: Path, size: int) -> np.ndarray:
    """The definition that published data sets are held to."""
    with warnings.catch_warnings(action="ignore"):
        image = Image.open(path).convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image)


def make_split(paths: list[Path]) -> Split:
    labels = np.ones((len(paths), 1), np.int8)
    return Split("val", ("cat",), tuple(path.name for path in paths), labels, FileImages(tuple(paths)))


def photo(path: Path, size: tuple[int, int] = (40, 30)) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(noise).save(path)
    return path


def test_pixels_of_real_photos_equal_pillows(test_data: Path) -> None:
    paths = sorted((test_data / "VOCdevkit/VOC2007/JPEGImages").iterdir())[:12]
    for index, path in enumerate(paths):
        for size, upright in ((64, True), (448, False)):  # none of them has an orientation
            pixels = FileImages(tuple(paths), upright).pixels(index, size)
            assert pixels.dtype == np.uint8
            assert pixels.flags.writeable
            np.testing.assert_array_equal(pixels, published(path, size))


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK"])
def test_every_mode_becomes_rgb_as_pillow_does_it(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.png" if mode == "P" else "a.tif")
    values = np.random.default_rng(1).integers(0, 256, (9, 7), np.uint8)
    Image.fromarray(values).convert(mode).save(path)
    np.testing.assert_array_equal(FileImages((path,)).pixels(0, 5), published(path, 5))


def halves(path: Path, orientation: int) -> Path:
    """Red over blue once it is turned as EXIF says."""
    upright = Image.new("RGB", (24, 16), "red")
    upright.paste("blue", (0, 8, 24, 16))
    for turn in Image.Transpose:  # the one that Pillow's own reading of the orientation takes back
        exif = Image.Exif()
        exif[0x0112] = orientation
        upright.transpose(turn).save(path, exif=exif, quality=95)
        with Image.open(path) as image:
            shown = ImageOps.exif_transpose(image)
            if shown.size == upright.size and np.abs(np.asarray(shown, int) - np.asarray(upright)).mean() < 8:
                return path
    raise AssertionError(orientation)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_pictures_are_turned_as_viewers_show_them_or_lie_as_published(tmp_path: Path, orientation: int) -> None:
    path = halves(tmp_path / "phone.jpg", orientation)
    pixels = FileImages((path,)).pixels(0, 8).astype(int)
    assert np.abs(pixels[1] - (255, 0, 0)).max() < 30
    assert np.abs(pixels[6] - (0, 0, 255)).max() < 30
    assert FileImages((path,)).inspect(0)[0] == (24, 16)  # where boxes are drawn
    np.testing.assert_array_equal(FileImages((path,), upright=False).pixels(0, 8), published(path, 8))


@pytest.mark.parametrize("data", [b"Exif\0\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0" + bytes(40)])
def test_damaged_exif_turns_nothing(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.jpg"
    Image.new("RGB", (8, 8), "red").save(path, exif=data)
    np.testing.assert_array_equal(FileImages((path,)).pixels(0, 4), published(path, 4))


@pytest.mark.parametrize("mode", ["LA", "P", "RGBA", "L", "RGB"])
@pytest.mark.parametrize("upright", [True, False])
def test_transparent_pictures_lie_on_white(tmp_path: Path, mode: str, upright: bool) -> None:
    """Black that shows nowhere, black that shows; as an alpha channel, or one colour that stands for nothing."""
    path = tmp_path / "logo.png"
    values = np.zeros((8, 8), np.uint8)
    values[4:] = 9
    if mode in ("LA", "RGBA"):
        image = Image.new(mode, (8, 8))
        image.putalpha(Image.fromarray((values > 0).astype(np.uint8) * 255))
        image.save(path)
    else:
        hidden = {"RGB": (0, 0, 0)}.get(mode, 0)
        image = Image.fromarray(values)
        if mode == "P":
            image.putpalette([0] * 768)
        (image if mode == "P" else image.convert(mode)).save(path, transparency=hidden)
    pixels = FileImages((path,), upright).pixels(0, 8)
    assert (pixels[:3] == 255).all()
    assert (pixels[5:] <= 9).all()


def test_what_a_store_keeps_is_told_apart_by_how_it_was_decoded(tmp_path: Path) -> None:
    """The published rule keeps the key that stores have; names that it does not reach get another."""
    paths = (photo(tmp_path / "a.jpg"), photo(tmp_path / "b.JPG"))
    stats = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    before = hashlib.sha256(json.dumps(stats).encode()).hexdigest()
    assert FileImages(paths, upright=False).signature() == before
    assert FileImages(paths).signature() != before
    others = (*paths, photo(tmp_path / "c.png"))
    assert len({FileImages(others, upright).signature() for upright in (True, False)}) == 2
    assert pixel_key(FileImages(paths), 8) != pixel_key(FileImages(paths, upright=False), 8)


def test_large_pictures_are_read_silently_up_to_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = photo(tmp_path / "a.png")  # 1200 pixels
    monkeypatch.setattr(images, "MOST_PIXELS", 1200)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # Pillow's own limit, whatever it is, does not count
    assert FileImages((path,)).pixels(0, 8).shape == (8, 8, 3)
    assert Image.MAX_IMAGE_PIXELS == 10
    monkeypatch.setattr(images, "MOST_PIXELS", 1198)
    with pytest.raises(BrokenImage, match=r"a\.png has over 0 million pixels, the most that are read: save it smaller"):
        FileImages((path,)).pixels(0, 8)


def damage(tmp_path: Path, kind: str) -> Path:
    """A file that is not a whole picture."""
    path = photo(tmp_path / ("a.png" if "png" in kind else "a.jpg"))
    data = path.read_bytes()
    if kind == "missing":
        path.unlink()
    elif kind == "folder":
        path.unlink()
        path.mkdir()
    elif kind == "fifo":
        path.unlink()
        os.mkfifo(path)
    elif kind == "device":
        path.unlink()
        path.symlink_to("/dev/zero")
    elif kind == "text":
        path.write_text("<html>not found</html>")
    elif kind == "no pixels":
        path.write_bytes(b"P6\n0 0\n255\n")
    elif kind == "postscript":
        path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    elif kind == "png checksum":
        path.write_bytes(data[:50] + bytes([data[50] ^ 255]) + data[51:])
    else:
        path.write_bytes(data[: {"empty": 0, "header": 10}.get(kind, len(data) // 2)])
    return path


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("missing", "cannot be read: No such file"),
        ("folder", "is not a regular file"),
        ("fifo", "is not a regular file"),
        ("device", "is not a regular file"),
        ("empty", "is empty"),
        ("header", "cannot be read: Truncated File Read"),
        ("text", "is not an image that Pillow reads"),
        ("no pixels", "is not an image that Pillow reads"),
        ("postscript", "is PostScript"),
        ("truncated jpg", "cannot be read: .*truncated"),
        ("truncated png", "cannot be read: .*truncated"),
        ("png checksum", "(is damaged|cannot be read): "),
    ],
)
def test_broken_files_are_named(tmp_path: Path, kind: str, why: str) -> None:
    path = damage(tmp_path, kind)
    with pytest.raises(BrokenImage, match=why) as error:
        FileImages((path,)).pixels(0, 8)
    assert error.value.where == str(path)
    assert str(error.value).startswith(str(path))


def test_any_cut_of_a_file_is_an_image_or_broken(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "a.gif", "a.tif", "a.webp", "a.bmp", "a.jp2"):
        path = photo(tmp_path / name)
        data = path.read_bytes()
        for cut in range(0, len(data), max(1, len(data) // 40)):
            path.write_bytes(data[:cut])
            with contextlib.suppress(BrokenImage):
                assert FileImages((path,)).pixels(0, 8).shape == (8, 8, 3)


def test_links_to_files_are_read_and_what_is_no_file_counts_as_missing(tmp_path: Path) -> None:
    link, fifo = tmp_path / "link.png", tmp_path / "fifo.png"
    link.symlink_to(photo(tmp_path / "a.png"))
    os.mkfifo(fifo)
    split = make_split([link, fifo, tmp_path])
    assert split.images.pixels(0, 8).shape == (8, 8, 3)
    assert find_missing(split) == [1, 2]
    with pytest.raises(InputError, match=r"2 of 3 images .*fifo\.png"):
        refuse_missing(split)


def test_missing_files_are_found_by_their_size(tmp_path: Path) -> None:
    good, empty = photo(tmp_path / "good.png"), tmp_path / "empty.png"
    empty.touch()
    gone = [tmp_path / f"gone{i}.png" for i in range(4)]
    split = make_split([good, empty, *gone, tmp_path / "nul\0.png"])
    assert find_missing(split) == [1, 2, 3, 4, 5, 6]
    with pytest.raises(InputError) as error:
        refuse_missing(split)
    assert "6 of 7 images of split 'val' are missing or empty" in str(error.value)
    assert "gone3.png and 1 more" in str(error.value)
    assert "with skip_broken=true" in str(error.value)
    refuse_missing(make_split([good]))


def test_signature_follows_path_size_and_time(tmp_path: Path) -> None:
    path = photo(tmp_path / "a.png")
    images = FileImages((path, tmp_path / "gone.png"))
    before = images.signature()
    assert images.signature() == before
    time = path.stat().st_mtime_ns
    os.utime(path, ns=(time, time + 1))
    assert images.signature() != before
    os.utime(path, ns=(time, time))
    assert images.signature() == before
    (tmp_path / "gone.png").touch()
    assert images.signature() != before


def test_fingerprint_follows_the_size_alone(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    one, copy = photo(tmp_path / "a.png"), photo(tmp_path / "copy" / "b.png")
    os.utime(copy, (1, 1))
    assert FileImages((one,)).fingerprint() == FileImages((copy,)).fingerprint()
    assert FileImages((one,)).signature() != FileImages((copy,)).signature()
    copy.write_bytes(copy.read_bytes() + b"x")
    assert FileImages((one,)).fingerprint() != FileImages((copy,)).fingerprint()


def test_images_can_be_given_to_workers(tmp_path: Path) -> None:
    images = FileImages((photo(tmp_path / "a.png"),))
    assert pickle.loads(pickle.dumps(images)) == images
