"""The split type and the checks that all readers share."""

import pickle
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from lshfm.datasets.checks import contents, first_five, nearest, read_text, require_plain
from lshfm.datasets.split import BrokenImage, Pixels, Split, settle_unlabelled
from lshfm.errors import InputError


@dataclass
class NoImages:
    count: int
    content: str = "x"

    def __len__(self) -> int:
        return self.count

    def pixels(self, index: int, size: int) -> Pixels:
        raise NotImplementedError

    def signature(self) -> str:
        return "s"

    def fingerprint(self) -> str:
        return self.content

    def where(self, index: int) -> str:
        return str(index)


def make_split(rows: list[list[int]]) -> Split:
    ids = tuple(f"i{row}" for row in range(len(rows)))
    return Split("train", ("cat", "dog"), ids, np.array(rows, np.int8), NoImages(len(rows)))


@pytest.mark.parametrize(
    "change",
    [
        {"labels": np.array([[1, 0]], np.int8)},
        {"ids": ("a", "a")},
        {"classes": ("cat", "cat")},
        {"images": NoImages(3)},
    ],
)
def test_inconsistent_splits_cannot_be_made(change: dict[str, object]) -> None:
    with pytest.raises(AssertionError):
        replace(make_split([[1, 0], [-1, 1]]), **change)


def test_fingerprint_is_of_the_content_alone() -> None:
    split = make_split([[1, 0], [-1, 1]])
    assert split.fingerprint() == make_split([[1, 0], [-1, 1]]).fingerprint()
    assert split.fingerprint() == replace(split, name="other").fingerprint()
    changes = [
        {"labels": np.array([[1, 1], [-1, 1]], np.int8)},
        {"ids": ("i0", "i2")},
        {"classes": ("cat", "cow")},
        {"images": NoImages(2, "y")},
    ]
    digests = {replace(split, **change).fingerprint() for change in changes}
    assert len(digests | {split.fingerprint()}) == 5
    assert len(split.fingerprint()) == 64


def test_labels_in_any_memory_order_have_one_fingerprint() -> None:
    split = make_split([[1, 0], [-1, 1]])
    assert replace(split, labels=np.asfortranarray(split.labels)).fingerprint() == split.fingerprint()


def test_an_image_with_difficult_objects_only_is_labelled() -> None:
    split = make_split([[0, -1], [-1, 1]])
    assert settle_unlabelled(split, "error") is split


def test_unlabelled_images_are_named_or_kept() -> None:
    split = make_split([[1, -1]] + [[-1, -1]] * 7)
    with pytest.raises(InputError) as error:
        settle_unlabelled(split, "error")
    assert "7 of 8 images of split 'train' have no label: i1, i2, i3, i4, i5 and 2 more" in str(error.value)
    assert "; unlabelled=negative treats" in str(error.value)
    assert settle_unlabelled(split, "negative") is split
    with pytest.raises(InputError, match=r"^unlabelled=negativ is not .*did you mean 'negative'"):
        settle_unlabelled(split, "negativ")


def test_a_broken_image_survives_the_way_back_from_a_worker() -> None:
    error = pickle.loads(pickle.dumps(BrokenImage("a.jpg", "is empty")))
    assert (str(error), error.where, type(error)) == ("a.jpg is empty", "a.jpg", BrokenImage)
    assert isinstance(error, InputError)


def test_words() -> None:
    assert first_five("abcde") == "a, b, c, d, e"
    assert first_five("abcdefg") == "a, b, c, d, e and 2 more"
    assert nearest("trian", ["train", "test"]) == " (did you mean 'train'?)"
    assert nearest("zzz", ["train", "test"]) == ""


@pytest.mark.parametrize("name", ["..", ".", "", "../a", "a/b", "/a", ".a", "a\n", "a b", "a\0"])
def test_names_that_lead_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="is not a plain name"):
        require_plain("id", name)


def test_contents(tmp_path: Path) -> None:
    (tmp_path / ".a.lock").touch()  # what a user does not see is not told
    assert contents(tmp_path) == f"{tmp_path} holds nothing"
    (tmp_path / "b").write_text("")
    (tmp_path / "a").mkdir()
    assert contents(tmp_path) == f"{tmp_path} holds a/, b"
    assert contents(tmp_path / "c") == f"There is no {tmp_path / 'c'}"
    assert contents(tmp_path / "b") == f"{tmp_path / 'b'} cannot be listed: Not a directory"


def test_read_text(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes(b"\xef\xbb\xbfa\xc3\xa9")
    assert read_text(path) == "aé"
    path.write_bytes(b"one\ntwo \xe9")
    with pytest.raises(InputError, match=r"t\.txt, line 2: not UTF-8"):
        read_text(path)
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_text(tmp_path / "none")
