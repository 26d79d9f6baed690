"""Names of files that would break a message's line, and damage at random, in pictures and the store made of them."""

import io
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lshfm.datasets.images import FileImages
from lshfm.datasets.split import BrokenImage
from lshfm.datasets.store import open_store
from lshfm.errors import InputError

pytestmark = pytest.mark.timeout(60)

SIZE = 8
FORMATS = {"PNG": {}, "JPEG": {}, "GIF": {}, "WEBP": {}, "BMP": {}, "TIFF": {"compression": "tiff_lzw"}, "JPEG2000": {}}


def encoded(form: str = "PNG") -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, form, **FORMATS[form])
    return file.getvalue()


@pytest.mark.parametrize("name", ["new\nline.jpg", "\x1b[31mred.jpg", "caf\udce9.jpg", "\u2028.jpg"])
def test_names_in_messages_stay_on_their_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"no image")
    with pytest.raises(BrokenImage) as caught:
        FileImages((path,)).pixels(0, SIZE)
    said = str(caught.value)
    assert said.startswith(f"{tmp_path}/")
    assert said.isprintable()


@pytest.mark.parametrize("name", ["new\nline.jpg", "猫 и кот.jpg", "a\\b.jpg", "caf\udce9.jpg", "-rf.jpg", " .jpg"])
def test_odd_names_are_read(tmp_path: Path, name: str) -> None:
    for path in (tmp_path / name, tmp_path / "plain.png"):
        path.write_bytes(encoded())
    images = FileImages((tmp_path / name, tmp_path / "plain.png"))
    np.testing.assert_array_equal(images.pixels(0, SIZE), images.pixels(1, SIZE))


def test_a_store_marks_exactly_the_broken_ones(tmp_path: Path) -> None:
    """The first name is longer than any file's, which the store's own name is made from."""
    (tmp_path / "good.png").write_bytes(encoded())
    (tmp_path / "half.png").write_bytes(encoded()[:300])
    names = ["x" * 300, "half.png", "good.png", "nul\0"]
    images = FileImages(tuple(tmp_path / name for name in names))

    def build(*, skip_broken: bool) -> tuple[int, ...]:
        folder = tmp_path / "stores"
        store = open_store(
            images, SIZE, folder, name="odd", workers=0, report=lambda done, total: None, skip_broken=skip_broken
        )
        np.testing.assert_array_equal(store.pixels[2], images.pixels(2, SIZE))
        return store.broken

    with pytest.raises(InputError, match="3 of 4 images are broken"):
        build(skip_broken=False)
    assert build(skip_broken=True) == (0, 1, 3)


@pytest.mark.parametrize("form", FORMATS)
def test_any_damage_is_an_image_or_a_message(tmp_path: Path, form: str) -> None:
    good, chance, path = encoded(form), random.Random(0), tmp_path / "a.jpg"
    for _ in range(120):
        damaged = bytearray(good)
        for _ in range(chance.choice([1, 2, 8])):
            at = chance.randrange(min(len(good), chance.choice([64, len(good)])))
            damaged[at : at + 4] = chance.choice([b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", chance.randbytes(4)])
        path.write_bytes(damaged)
        try:
            pixels = FileImages((path,)).pixels(0, SIZE)
        except BrokenImage as error:
            assert str(error).startswith(str(path))  # noqa: PT017
        else:
            assert pixels.shape == (SIZE, SIZE, 3)
