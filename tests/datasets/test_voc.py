"""The VOC reader against the devkit's own label files, and on damaged copies of the layout."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lshfm.datasets.voc import CLASSES, VOC
from lshfm.errors import InputError


@pytest.mark.parametrize("name", ["trainval", "test"])
def test_labels_equal_the_official_ones(test_data: Path, name: str) -> None:
    split = VOC(test_data).split(name)
    assert split.classes == CLASSES == tuple(sorted(CLASSES))
    assert split.labels.shape == (600, 20)
    main = test_data / "VOCdevkit/VOC2007/ImageSets/Main"
    for column, class_name in enumerate(split.classes):
        lines = (main / f"{class_name}_{name}.txt").read_text().split()
        assert tuple(lines[::2]) == split.ids
        assert split.labels[:, column].tolist() == [int(value) for value in lines[1::2]]


def test_images_are_the_listed_ones(test_data: Path) -> None:
    split = VOC(test_data / "VOCdevkit").split("test")
    assert split.ids[0] == "000024"
    assert split.images.where(0).endswith("VOC2007/JPEGImages/000024.jpg")
    assert split.images.pixels(0, 32).shape == (32, 32, 3)


def thing(name: str, difficult: str | None = "0") -> str:
    extra = "" if difficult is None else f"<difficult>{difficult}</difficult>"
    return f"<object><name>{name}</name>{extra}<part><name>head</name></part></object>"


def annotate(folder: Path, id: str, *objects: str) -> Path:
    path = folder / "Annotations" / f"{id}.xml"
    path.write_text(f"<annotation><folder>x</folder>{''.join(objects)}</annotation>")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """VOCdevkit/VOC2007 with the images a (dog), b (cat twice, once difficult) and c (difficult cow)."""
    folder = tmp_path / "VOCdevkit" / "VOC2007"
    for part in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (folder / part).mkdir(parents=True)
    (folder / "ImageSets/Main/trainval.txt").write_text("c\na\r\n\nb\n")
    (folder / "ImageSets/Main/cat_trainval.txt").write_text("a -1\nb  1\n")
    annotate(folder, "a", thing("dog", None))
    annotate(folder, "b", thing("cat", "1"), thing("cat"), thing("cat", "1"))
    annotate(folder, "c", thing("cow", "1"), thing("cow", "1"))
    return folder


def refused(folder: Path, name: str = "trainval", **settings: str) -> str:
    with pytest.raises(InputError) as error:
        VOC(folder, **settings).split(name)
    return str(error.value)


def test_labels_and_order(folder: Path) -> None:
    split = VOC(folder).split("trainval")
    assert split.ids == ("c", "a", "b")
    expected = np.full((3, 20), -1)
    expected[0, CLASSES.index("cow")] = 0
    expected[1, CLASSES.index("dog")] = 1
    expected[2, CLASSES.index("cat")] = 1
    np.testing.assert_array_equal(split.labels, expected)


@pytest.mark.parametrize("up", [0, 1, 2])
def test_root_may_be_any_of_three_folders(folder: Path, up: int) -> None:
    root = [folder, *folder.parents][up]
    assert VOC(str(root)).split("trainval").images.where(1) == str(folder / "JPEGImages" / "a.jpg")


def test_root_may_start_at_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    assert len(VOC("~/VOC2007").split("trainval")) == 3


def test_a_missing_root_shows_the_layout_and_what_is_there(folder: Path, tmp_path: Path) -> None:
    message = refused(tmp_path / "none")
    assert "ImageSets/Main/<split>.txt, Annotations/<image>.xml and JPEGImages/<image>.jpg" in message
    assert f"There is no {tmp_path / 'none'}" in message
    (tmp_path / "x" / "data").mkdir(parents=True)
    assert "x holds data/" in refused(tmp_path / "x")
    with pytest.raises(InputError, match="No VOC2012 at"):
        VOC(tmp_path, year=2012).split("trainval")


def test_a_missing_split_names_the_ones_there_are(folder: Path) -> None:
    assert "it has trainval (did you mean 'trainval'?)" in refused(folder, "trainvall")
    assert "is not a plain name" in refused(folder, "../trainval")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "trainval.txt: lists no image"),
        ("a\n../a\n", "image id '../a' is not a plain name"),
        ("a 1\n", "a 1.xml; a list with -1, 0 or 1 behind each name is of one class, and no split"),
        ("a\nb\na\n", "image id 'a' is there several times"),
        ("a\nd\n", "there is no "),
    ],
)
def test_bad_lists(folder: Path, text: str, message: str) -> None:
    (folder / "ImageSets/Main/trainval.txt").write_text(text)
    assert message in refused(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"<annotation>{thing('aeroplan')}</annotation>", "unknown class 'aeroplan' (did you mean"),
        ("<annotation><object/></annotation>", "unknown class ''"),
        (f"<annotation>{thing('cat', 'maybe')}</annotation>", "<difficult> is 'maybe', expected 0 or 1"),
        ("<annotation>\n<object>\n</annotation>", "broken XML: mismatched tag: line 3"),
        ("", "broken XML: no element found"),
        ("<html></html>", "starts with <html>, not <annotation>"),
        ("<?xml version='1.0' encoding='big5'?><annotation/>", "cannot be used: "),
        ("<?xml version='1.0' encoding='nonsense'?><annotation/>", "cannot be used: "),
        ('<!DOCTYPE x [<!ENTITY a "cat">]><annotation/>', "a document type (x) is not allowed"),
        ('<!DOCTYPE x SYSTEM "file:///etc/passwd"><annotation/>', "a document type (x) is not allowed"),
    ],
)
def test_bad_annotations_are_named(folder: Path, text: str, message: str) -> None:
    path = folder / "Annotations" / "b.xml"
    path.write_text(text)
    assert message in refused(folder)
    assert str(path) in refused(folder)


def test_annotations_that_are_no_regular_files(folder: Path) -> None:
    path = folder / "Annotations" / "b.xml"
    path.unlink()
    os.mkfifo(path)
    assert f"{path}: is not a regular file" in refused(folder)


@pytest.mark.parametrize("year", ["abc", True, 2007.0])
def test_the_year_is_a_whole_number(year: Any) -> None:
    with pytest.raises(InputError, match=f"^year={year} must be a whole number"):
        VOC(".", year=year)


def test_an_empty_root_is_refused() -> None:
    with pytest.raises(InputError, match=r"^root is empty"):
        VOC("")


def test_images_without_objects(folder: Path) -> None:
    annotate(folder, "b")
    assert "1 of 3 images of split 'trainval' have no label: b" in refused(folder)
    assert (VOC(folder, unlabelled="negative").split("trainval").labels[2] == -1).all()


def test_own_classes_endings_blanks_and_empty_fields(folder: Path) -> None:
    """A set of a user's own in VOC's layout."""
    (folder / "ImageSets/Main/own.txt").write_text("my photo (1)\nb\nscan\n")
    annotate(folder, "my photo (1)", thing("bolt", ""), thing("nut", " "))
    annotate(folder, "b", thing("nut"))
    annotate(folder, "scan", thing("bolt", "1"))
    for name in ("my photo (1).png", "b.JPG", "b.txt", "scan.jpeg", "scan.jpg"):
        (folder / "JPEGImages" / name).write_bytes(b"x")
    split = VOC(folder, classes=["nut", "bolt"]).split("own")
    assert split.classes == ("nut", "bolt")
    assert split.ids == ("my photo (1)", "b", "scan")
    assert split.labels.tolist() == [[1, 1], [1, -1], [-1, 0]]
    names = [Path(split.images.where(i)).name for i in range(3)]
    assert names == ["my photo (1).png", "b.JPG", "scan.jpg"]
    assert VOC(folder, classes=["nut", "bolt"]).names() == ["own", "trainval"]
    with pytest.raises(InputError, match="object 1: unknown class 'bolt'"):
        VOC(folder, classes=["nut"]).split("own")
    with pytest.raises(InputError, match=r"^classes=nut must be a list"):
        VOC(folder, classes="nut")


def test_a_list_of_one_class_is_no_split(folder: Path) -> None:
    assert "a list with -1, 0 or 1 behind each name is of one class" in refused(folder, "cat_trainval")


def test_published_pictures_lie_as_they_are_in_the_file(folder: Path) -> None:
    assert not VOC(folder).split("trainval").images.upright  # type: ignore[attr-defined]
    assert VOC(folder, exif=True).split("trainval").images.upright  # type: ignore[attr-defined]
