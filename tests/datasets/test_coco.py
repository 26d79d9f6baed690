"""The COCO reader against counts taken straight from the JSON, and on damaged files."""

import json
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lshfm.datasets.coco import COCO
from lshfm.errors import InputError


@pytest.mark.parametrize("name", ["train2014", "val2014"])
@pytest.mark.parametrize("keep", ["annotated", "all"])
def test_labels_of_the_real_piece(test_data: Path, name: str, keep: str) -> None:
    root = test_data / "coco2014"
    data = json.loads((root / f"annotations/instances_{name}.json").read_text())
    split = COCO(root, keep=keep).split(name)
    names = {category["id"]: category["name"] for category in data["categories"]}
    shown = defaultdict(set)
    for annotation in data["annotations"]:
        shown[str(annotation["image_id"])].add(names[annotation["category_id"]])
    assert split.classes == tuple(names[id] for id in sorted(names))
    assert len(split) == {"annotated": 80, "all": 81}[keep]
    assert list(map(int, split.ids)) == sorted(map(int, split.ids))
    for id, row in zip(split.ids, split.labels, strict=True):
        assert {split.classes[i] for i in np.flatnonzero(row == 1)} == shown[id]
    assert set(np.unique(split.labels)) == {-1, 1}


def test_real_images_are_where_the_names_say(test_data: Path) -> None:
    split = COCO(test_data / "coco2014").split("val2014")
    assert split.images.where(0).endswith(f"/val2014/COCO_val2014_{int(split.ids[0]):012d}.jpg")
    assert split.images.pixels(0, 16).shape == (16, 16, 3)


def example() -> dict[str, Any]:
    """Images 7 (crowd of dogs, a cat), 3 (nothing) and 5 (dogs); category ids out of order."""
    return {
        "categories": [{"id": 9, "name": "cat"}, {"id": 2, "name": "dog"}],
        "images": [{"id": id, "file_name": f"{id}.jpg"} for id in (7, 3, 5)],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 2, "iscrowd": 1},
            {"id": 2, "image_id": 7, "category_id": 9, "iscrowd": 0},
            {"id": 3, "image_id": 5, "category_id": 2, "iscrowd": 0},
            {"id": 4, "image_id": 5, "category_id": 2, "iscrowd": 0},
        ],
    }


def write(root: Path, data: object) -> Path:
    """The data as split "val", with an empty image folder."""
    for part in ("annotations", "val"):
        (root / part).mkdir(exist_ok=True)
    path = root / "annotations" / "instances_val.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


def refused(root: Path, name: str = "val", **settings: str) -> str:
    with pytest.raises(InputError) as error:
        COCO(root, **settings).split(name)
    return str(error.value)


def test_order_classes_and_crowds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, example())
    split = COCO(str(tmp_path)).split("val")
    assert (split.name, split.classes, split.ids) == ("val", ("dog", "cat"), ("5", "7"))
    assert split.labels.tolist() == [[1, -1], [1, 1]]
    assert split.images.where(1) == str(tmp_path / "val" / "7.jpg")
    everything = COCO(tmp_path, keep="all").split("val")
    assert everything.ids == ("3", "5", "7")
    assert everything.labels[0].tolist() == [-1, -1]
    assert capsys.readouterr().out == ""


def test_names_of_files_and_folders_can_be_given(tmp_path: Path) -> None:
    write(tmp_path, example()).rename(tmp_path / "val_boxes.json")
    (tmp_path / "val").rename(tmp_path / "pictures")
    split = COCO(tmp_path, annotations="{split}_boxes.json", images="pictures").split("val")
    assert split.images.where(0) == str(tmp_path / "pictures" / "5.jpg")


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    message = refused(tmp_path / "none")
    assert "annotations/instances_{split}.json, images in {split}/" in message
    assert "(others as annotations=annotations/{split}.json images=images/{split})" in message  # what to type
    assert f"There is no {tmp_path / 'none'}" in message
    write(tmp_path, example())
    assert "annotations holds instances_val.json" in refused(tmp_path, "train")
    (tmp_path / "val").rmdir()
    assert f"{tmp_path / 'val'} is not there" in refused(tmp_path)
    assert "'../val' is not a plain name" in refused(tmp_path, "../val")


def test_fifos_and_an_empty_root_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, example())
    path.unlink()
    os.mkfifo(path)
    assert f"{path} is not there" in refused(tmp_path)
    with pytest.raises(InputError, match=r"^root is empty"):
        COCO("")


def test_keep_is_one_of_two() -> None:
    with pytest.raises(InputError, match=r"^keep=anotated .*did you mean 'annotated'"):
        COCO(".", keep="anotated")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [', "broken JSON: Expecting value: line 1"),
        ("", "broken JSON"),
        ("[" * 100_000, "broken JSON"),
        ("[1]", "not in COCO's format: expected an object with categories, images, annotations"),
        ("{}", "expected a list 'categories'"),
    ],
)
def test_files_that_are_something_else(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    assert message in refused(tmp_path)
    assert str(path) in refused(tmp_path)


@pytest.mark.parametrize(
    ("key", "index", "change", "message"),
    [
        ("images", 1, {"id": 3.0}, "images[1]: needs 'id', a whole number or a text"),
        ("images", 1, {"id": True}, "images[1]: needs 'id', a whole number or a text"),
        ("images", 1, {"id": 7}, "images[1]: repeats id 7"),
        ("images", 0, {"file_name": None}, "images[0]: needs 'file_name', a text"),
        (
            "images",
            0,
            {"file_name": "../a.jpg"},
            "images[0]: file_name '../a.jpg' is outside its folder: write it as it lies under",
        ),
        ("images", 0, {"file_name": "/etc/passwd"}, "file_name '/etc/passwd' is outside its folder"),
        ("images", 0, {"file_name": ""}, "file_name '' is outside its folder"),
        ("annotations", 2, {"image_id": 4}, "annotations[2]: has the unknown image_id 4"),
        ("annotations", 2, {"category_id": 1}, "annotations[2]: has the unknown category_id 1"),
        ("annotations", 2, {"category_id": 2.0}, "annotations[2]: needs 'category_id', a whole number or a text"),
        ("categories", 1, {"id": 9}, "categories[1]: repeats id 9"),
        ("images", 1, {"file_name": "\ud800"}, r"images[1]: file_name '\ud800' holds half a character"),
        ("categories", 1, {"name": "\ud800"}, r"categories[1]: name '\ud800' holds half a character"),
        ("categories", 1, {"name": "a\nb"}, r"categories[1]: name 'a\nb' holds a control character"),
        ("categories", 1, {"name": "cat"}, "category name 'cat' is there twice"),
    ],
)
def test_bad_entries_are_named(tmp_path: Path, key: str, index: int, change: dict[str, object], message: str) -> None:
    data = example()
    data[key][index].update(change)
    path = write(tmp_path, data)
    assert f"{path}: " in refused(tmp_path)
    assert message in refused(tmp_path)


@pytest.mark.parametrize("field", ["image_id", "category_id"])
def test_missing_keys_are_named(tmp_path: Path, field: str) -> None:
    data = example()
    del data["annotations"][1][field]
    write(tmp_path, data)
    assert f"annotations[1]: needs '{field}'" in refused(tmp_path)


def test_entries_and_lists_of_the_wrong_type(tmp_path: Path) -> None:
    write(tmp_path, example() | {"images": [3]})
    assert "images[0]: needs 'id'" in refused(tmp_path)
    write(tmp_path, example() | {"annotations": {}})
    assert "expected a list 'annotations'" in refused(tmp_path)


def test_no_image_left(tmp_path: Path) -> None:
    write(tmp_path, example() | {"annotations": []})
    assert "has no image with an annotation" in refused(tmp_path)
    assert len(COCO(tmp_path, keep="all").split("val")) == 3
    write(tmp_path, example() | {"annotations": [], "images": []})
    assert "has no image" in refused(tmp_path, keep="all")
