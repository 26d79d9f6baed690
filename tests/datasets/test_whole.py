"""Stores of pictures of many shapes: the pixels of decoding, whole or absent, what crops and detection read."""

import errno
import logging
import os
import pickle
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lshfm.datasets.box_loader import DecodedPictures
from lshfm.datasets.cropped_pixels import CroppedPixels
from lshfm.datasets.decode import in_threads
from lshfm.datasets.images import FileImages
from lshfm.datasets.ragged_file import RaggedFile, RaggedStore, estimated
from lshfm.datasets.store import find_store, open_store
from lshfm.datasets.whole import StoredPictures, WholePictures
from lshfm.errors import InputError, RunFailed

SHAPES = ((40, 30), (31, 57), (20, 90), (64, 64), (9, 7))  # height and width


@pytest.fixture
def images(tmp_path: Path) -> FileImages:
    """The second one lies on its side, as its EXIF says; the third is grey with 16 bits."""
    (tmp_path / "pictures").mkdir()
    paths = [tmp_path / "pictures" / f"{i}.{'jpg' if i == 1 else 'png'}" for i in range(len(SHAPES))]
    random, exif = np.random.default_rng(0), Image.Exif()
    exif[0x0112] = 6
    for i, (path, shape) in enumerate(zip(paths, SHAPES, strict=True)):
        pixels = random.integers(0, 256, (*shape, 3), np.uint8)
        image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257) if i == 2 else Image.fromarray(pixels)
        image.save(path, **({"exif": exif} if i == 1 else {}))
    return FileImages(tuple(paths))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def opened(images: FileImages, folder: Path, short: int = 0, **settings: object) -> RaggedStore:
    whole = WholePictures(images, short)
    settings = {"name": "a", "workers": 0, "report": lambda *_: None, "kind": RaggedFile} | settings
    store = open_store(whole, short, folder, **settings)  # type: ignore[arg-type]
    assert isinstance(store, RaggedStore)
    return store


def stored(images: FileImages, folder: Path, short: int = 0) -> StoredPictures:
    store = opened(images, folder, short)
    return StoredPictures(RaggedFile(store.path, len(images), short), images)


@pytest.mark.parametrize(("short", "shapes"), [
    (0, [(40, 30), (57, 31), (20, 90), (64, 64), (9, 7)]),
    (16, [(21, 16), (29, 16), (16, 72), (16, 16), (9, 7)]),  # what is smaller stays as it is
])  # fmt: skip
def test_the_pixels_are_those_of_decoding(
    images: FileImages, folder: Path, short: int, shapes: list[tuple[int, int]]
) -> None:
    store = opened(images, folder, short)
    whole = WholePictures(images, short)
    assert [store.picture(i).shape[:2] for i in range(5)] == shapes == [whole.shape(i) for i in range(5)]
    for i in range(5):
        assert np.array_equal(store.picture(i), np.array(whole.picture(i)))
    assert len(list(folder.glob("*.npy"))) == 1
    assert estimated(whole) == pytest.approx(5 * 17 + sum(h * w * 3 for h, w in shapes), abs=5)
    again = find_store(whole, short, folder, name="a", kind=RaggedFile)
    assert again is not None
    assert again.path == store.path


def test_crops_of_a_store_are_those_of_files(images: FileImages, folder: Path) -> None:
    """With and without a short side, by threads; a source that went to another process reads the store anew."""
    for short in (0, 16):
        source = stored(images, folder, short)
        decoded = CroppedPixels(images, 12, (0.08, 1.0), pictures=WholePictures(images, short)).of_epoch(1, 2)
        kept = CroppedPixels(images, 12, (0.08, 1.0), 2, pictures=source, run=in_threads).of_epoch(1, 2)
        index = [np.array([3, 1]), np.array([0, 2, 4])]
        for ours, theirs in zip(kept.stream(index), decoded.stream(index), strict=True):
            assert np.array_equal(ours, theirs)
    again = pickle.loads(pickle.dumps(source))
    assert np.array_equal(again.store.picture(2), source.store.picture(2))
    own = stored(images, folder)
    assert all(np.array_equal(own.pixels(i, 8), images.pixels(i, 8)) for i in range(5))


def test_a_detectors_pictures_are_those_of_files(images: FileImages, folder: Path) -> None:
    index = [np.array([2, 0]), np.array([4])]
    both = zip(stored(images, folder).stream(index), DecodedPictures(images).stream(index), strict=True)
    for ours, theirs in both:
        assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
        assert all(a.flags.writeable for a in ours)  # or torch would warn


def _shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _at(place: int, data: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(place, os.SEEK_SET if place >= 0 else os.SEEK_END)
            file.write(data)

    return write


@pytest.mark.parametrize(("damage", "said"), [
    (_shorten, "damaged table"), (_empty, "too few for 5 pictures"), (_at(0, b"xxx"), "damaged header"),
    (_at(-5, bytes(5)), "never finished"), (_at(-20, b"\7"), "damaged table"),
])  # fmt: skip
def test_a_damaged_store_is_built_again(
    images: FileImages, folder: Path, damage: Callable[[Path], None], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    damage(opened(images, folder).path)
    with caplog.at_level(logging.INFO, "lshfm"):
        store = opened(images, folder)
    assert [said in r.message and "building it again" in r.message for r in caplog.records] == [True]
    assert np.array_equal(store.picture(3), np.array(images.picture(3)))


def test_broken_pictures_are_named_or_left_out(images: FileImages, folder: Path) -> None:
    """A header that can be read does not make a picture."""
    images.paths[0].write_bytes(b"no picture")
    images.paths[3].write_bytes(images.paths[3].read_bytes()[:2000])
    with pytest.raises(InputError, match=r"(?s)2 of 5 images are broken:.*0\.png.*3\.png.*skip_broken=true"):
        opened(images, folder)
    assert list(folder.glob("*.npy")) == []
    store = opened(images, folder, skip_broken=True)
    assert store.broken == (0, 3)
    assert np.array_equal(store.picture(4), np.array(images.picture(4)))


def test_a_store_of_nothing_but_broken_pictures(images: FileImages, folder: Path) -> None:
    for path in images.paths:
        path.write_bytes(b"no picture")
    assert opened(images, folder, skip_broken=True).broken == (0, 1, 2, 3, 4)


Usage = namedtuple("Usage", "total used free")


def test_no_room_is_said_before_and_while_it_is_written(
    images: FileImages, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 0, 25_000))
        with pytest.raises(InputError, match=r"No room for the pixel store"):
            opened(images, folder)

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", fail)
    with pytest.raises(RunFailed, match=os.strerror(errno.ENOSPC)):
        opened(images, folder)
    assert [path for path in folder.iterdir() if path.suffix != ".lock" and not path.name.startswith(".")] == []


def test_stores_of_short_sides_lie_side_by_side_and_a_stale_one_goes(images: FileImages, folder: Path) -> None:
    own, small = (opened(images, folder, short).path for short in (0, 16))
    assert set(folder.glob("*.npy")) == {own, small}
    os.utime(images.paths[0], ns=(0, 0))
    new = opened(images, folder, 16).path
    assert new != small
    assert set(folder.glob("*.npy")) == {own, new}
