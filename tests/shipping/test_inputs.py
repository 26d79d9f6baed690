"""Which pictures a path means."""

import os
from pathlib import Path

import pytest
from PIL import Image

from lshfm.datasets.images import FileImages
from lshfm.datasets.split import BrokenImage
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
    os.mkfifo(tmp_path / "pipe")
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


def test_links_are_followed_and_each_folder_is_looked_into_once(folder: Path) -> None:
    """Circles end; a link to nothing and a pipe are pictures that cannot be read, and block nobody."""
    (folder / "in/round").symlink_to(folder)
    (folder / "in/elsewhere").symlink_to(folder.parent / f"{folder.name}-other")
    other = folder.parent / f"{folder.name}-other"
    other.mkdir()
    Image.new("RGB", (4, 4)).save(other / "o.jpg")
    (folder / "in/loop.jpg").symlink_to("loop.jpg")
    os.mkfifo(folder / "in/pipe.jpg")
    found = [str(path.relative_to(folder)) for path in find_pictures(folder / "in")]
    assert found == [
        "in/c.jpg", "in/deep/d.webp", "in/elsewhere/o.jpg", "in/loop.jpg", "in/pipe.jpg",
        "in/round/a.PNG", "in/round/b.jpg", "in/round/e [1].jpg",
    ]  # fmt: skip
    pictures = FileImages(tuple(find_pictures(folder / "in")))
    for index in (3, 4):
        with pytest.raises(BrokenImage, match=r"symbolic links|not a regular file"):
            pictures.pixels(index, 4)


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ("nowhere", "no such file or folder"),
        ("empty", "holds no pictures"),
        ("none.txt", "lists no pictures"),
        ("*.gif", "nothing is called so"),
        ("a\0b", "NUL"),
        ("pipe", "neither a file nor a folder"),
    ],
)
def test_where_nothing_is(folder: Path, given: str, fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        find_pictures(f"{folder}/{given}")
