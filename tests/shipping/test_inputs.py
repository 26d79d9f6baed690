"""Which pictures a path means."""

from pathlib import Path

import pytest
from PIL import Image

from lshfm.errors import InputError
from lshfm.shipping.inputs import find_pictures


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a.PNG", "in/c.jpg", "in/deep/d.webp", "e [1].jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    (tmp_path / "notes.md").write_text("no picture")
    (tmp_path / "in/f.pdf").write_text("nor this")
    (tmp_path / "list.txt").write_text("\ufeffin/c.jpg\n\nb.jpg\n  gone.jpg\n")
    (tmp_path / "none.txt").write_text("\n")
    (tmp_path / "empty").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("", ["a.PNG", "b.jpg", "e [1].jpg", "in/c.jpg", "in/deep/d.webp"]),  # of folders in it too, by name
        ("in", ["in/c.jpg", "in/deep/d.webp"]),
        ("*.jpg", ["b.jpg", "e [1].jpg"]),
        ("**/*.jpg", ["b.jpg", "e [1].jpg", "in/c.jpg"]),
        ("i*", ["in/c.jpg", "in/deep/d.webp"]),  # a folder that a glob meets is looked into
        ("e [1].jpg", ["e [1].jpg"]),  # a file's own name is no glob
        ("notes.md", ["notes.md"]),  # named, so taken, whatever it is
        ("list.txt", ["in/c.jpg", "b.jpg", "gone.jpg"]),  # in its order, relative to itself
    ],
)
def test_what_is_found(folder: Path, given: str, found: list[str]) -> None:
    assert find_pictures(folder / given) == [folder / name for name in found]


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ("nowhere", "no such file or folder"),
        ("empty", "holds no pictures"),
        ("none.txt", "lists no pictures"),
        ("*.gif", "nothing is called so"),
        ("a\0b", "NUL"),
    ],
)
def test_where_nothing_is(folder: Path, given: str, fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        find_pictures(f"{folder}/{given}")
