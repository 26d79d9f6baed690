"""Folders of classes: what is listed, labelled, called and refused; the list that is kept."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import functional as F

from lshfm.datasets import listing
from lshfm.datasets.fitting import centred
from lshfm.datasets.folders import ImageFolder
from lshfm.errors import InputError


def tree(root: Path, **splits: dict[str, int]) -> Path:
    """Pictures of a colour each: so many in each class of each split."""
    for split, classes in splits.items():
        for name, count in classes.items():
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (12, 8), (i, len(name), 0)).save(root / split / name / f"{i}.png")
    return root


def test_labels_are_places_of_the_training_splits_sorted_folders(tmp_path: Path) -> None:
    source = ImageFolder(tree(tmp_path, train={"b": 2, "a": 1, "c": 1}, val={"c": 2, "a": 1}))
    train, val = (source.split(name) for name in ("train", "val"))
    assert (train.classes, train.labels.tolist()) == (("a", "b", "c"), [0, 1, 1, 2])
    assert (val.classes, val.labels.tolist()) == (("a", "b", "c"), [0, 2, 2])
    assert val.ids == ("a/0.png", "c/0.png", "c/1.png")
    assert val.images.where(2) == str(tmp_path / "val" / "c" / "1.png")
    assert val.images.pixels(2, 4)[0, 0].tolist() == [1, 1, 0]


def test_only_pictures_are_taken(tmp_path: Path) -> None:
    root = tree(tmp_path, train={"a": 1})
    for name in ("notes.txt", ".hidden", "0.JPEG"):
        (root / "train" / "a" / name).write_bytes(b"")
    (root / "train" / "a" / "folder.png").mkdir()
    (root / "train" / ".cache").mkdir()
    assert ImageFolder(root).split("train").ids == ("a/0.JPEG", "a/0.png")


def test_a_kept_list_saves_the_looking_until_a_folder_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, lists = tree(tmp_path / "data", train={"a": 2, "b": 1}), tmp_path / "lists"
    first = ImageFolder(root, lists=lists).split("train")
    looked: list[Path] = []
    whole = listing._pictures
    monkeypatch.setattr(listing, "_pictures", lambda folder: looked.append(folder) or whole(folder))
    again = ImageFolder(root, lists=lists).split("train")
    assert (again.ids, again.fingerprint(), looked) == (first.ids, first.fingerprint(), [])
    Image.new("RGB", (4, 4)).save(root / "train" / "b" / "new.png")
    os.utime(root / "train" / "b", ns=(0, 10**18))  # whatever the file system's clock
    assert ImageFolder(root, lists=lists).split("train").ids == (*first.ids, "b/new.png")
    assert looked
    for damage in ("", "{}", "[1]\nx", "{" * 10):
        next(lists.iterdir()).write_text(damage)
        assert len(ImageFolder(root, lists=lists).split("train")) == 4


def test_names_of_classes_come_from_a_file(tmp_path: Path) -> None:
    root, names = tree(tmp_path, train={"n1": 1, "n2": 1, "n3": 1}), tmp_path / "names.txt"
    names.write_text("n2 crane\nn1 kite, a bird\nn3 crane\nn9 unused\n")
    assert ImageFolder(root, names=names).split("train").classes == ("kite, a bird", "crane (n2)", "crane (n3)")
    names.write_text("one\ntwo\nthree\n")
    assert ImageFolder(root, names=names).split("train").classes == ("one", "two", "three")
    names.write_text("n1 one\nn2 two\nn4 of another set\n")
    with pytest.raises(InputError, match=r"nor begin with their folders \(not there: n3\)"):
        ImageFolder(root, names=names).split("train")
    names.write_text("one\ntwo\n")
    with pytest.raises(InputError, match=r"names.txt has 2 lines, which neither name the 3 classes in order"):
        ImageFolder(root, names=names).split("train")


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    root = tree(tmp_path, train={"cat": 1, "dog": 0}, val={"cat": 1, "doge": 1}, bare={})
    with pytest.raises(InputError, match=r"1 of 2 folders of classes in .*/train hold no picture: dog"):
        ImageFolder(root).split("train")
    Image.new("RGB", (4, 4)).save(root / "train" / "dog" / "0.png")
    with pytest.raises(InputError, match=r"/val has classes that train has not: doge \(did you mean 'dog'\?\)"):
        ImageFolder(root).split("val")
    with pytest.raises(
        InputError, match=r"(?s)No split 'test' at root=.*Expected .*/test/CLASS/PICTURE; .* train/, val/"
    ):
        ImageFolder(root).split("test")
    (root / "bare").mkdir()
    with pytest.raises(InputError, match="/bare has no folders of classes"):
        ImageFolder(root, classes_from="bare").split("bare")
    with pytest.raises(InputError, match="is not a plain name"):
        ImageFolder(root).split("../data")
    with pytest.raises(InputError, match="fit=pad is not one of stretch, crop"):
        ImageFolder(root, fit="pad")


@pytest.mark.parametrize("shape", [(40, 30), (31, 57), (28, 28)])
def test_the_centre_is_torchvisions_resize_and_crop(shape: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    image = Image.fromarray(random.integers(0, 256, (*shape, 3), np.uint8))
    expected = F.center_crop(F.resize(image, 16, antialias=True), [14, 14])
    assert (np.array(centred(image, 14)) == np.array(expected)).all()


def test_the_real_folders_are_read(test_data: Path) -> None:
    source = ImageFolder(test_data / "imagenette")
    assert [len(source.split(name)) for name in ("train", "val")] == [600, 300]
    assert source.split("val").images.pixels(0, 64).shape == (64, 64, 3)
