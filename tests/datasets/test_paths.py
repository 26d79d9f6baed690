"""Paths of one folder: the same as pathlib's, without making one for each file."""

from pathlib import Path

import pytest

from lshfm.datasets import images as of_images
from lshfm.datasets.images import FileImages
from lshfm.datasets.paths import PathsWithin, absolute, suffix, texts

NAMES = ("a.jpg", "b/c.JPEG", "../d.png", ".jpg", "e.tar.gz", "f.", "..jpg", "g.d/h")


@pytest.mark.parametrize("folder", [".", "x", "x/y", "/", "/x"])
def test_they_equal_pathlibs(folder: str) -> None:
    ours, theirs = PathsWithin(folder, NAMES), tuple(Path(folder) / name for name in NAMES)
    assert tuple(ours) == theirs
    assert ours == theirs
    assert ours != theirs[1:]
    assert ours[1:3] == theirs[1:3]
    assert texts(ours) == texts(theirs) == [str(path) for path in theirs]
    assert [absolute(text) for text in texts(ours)] == [str(path.absolute()) for path in theirs]
    suffixes = [path.suffix.lower().removesuffix(".") for path in theirs]  # "f." has the suffix "." from Python 3.14 on
    assert [suffix(text) for text in texts(ours)] == suffixes


def test_files_are_asked_for_once_where_that_is_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ab":
        (tmp_path / f"{name}.jpg").write_text(name)
    images = FileImages(PathsWithin(str(tmp_path), ("a.jpg", "b.jpg", "c.jpg")), upright=False)
    asked: list[str] = []
    status = of_images._size_and_time
    monkeypatch.setattr(of_images, "_size_and_time", lambda path: asked.append(path) or status(path))
    now = images.as_now()
    for _ in range(2):
        assert (now.signature(), now.fingerprint()) == (images.signature(), images.fingerprint())
    assert now == images
    assert len(asked) == 3 * (1 + 4)
    (tmp_path / "b.jpg").unlink()
    assert now.signature() != images.signature()
