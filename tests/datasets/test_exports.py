"""Exports of annotation tools in COCO's format, laid out by hand as the tools do, of real pictures with real boxes."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lshfm.datasets.annotations import Annotations, Fault, Picture
from lshfm.datasets.coco import COCO
from lshfm.datasets.reader import strict
from lshfm.datasets.split import Split
from lshfm.datasets.voc import VOC
from lshfm.errors import InputError
from tests.cli.conftest import here

CLASSES = ("car", "dog", "person")


@pytest.fixture(scope="module")
def pictures(test_data: Path) -> list[Picture]:
    """Twelve that show some of CLASSES, with their objects of these."""
    found = VOC(test_data).annotations("trainval", strict).pictures
    kept = [p._replace(objects=tuple(item for item in p.objects if item.label in CLASSES)) for p in found]
    return [picture for picture in kept if picture.objects][:12]


def lists(pictures: Sequence[Picture], ids: dict[str, int], *, first: int, name: Callable[[Picture], str]) -> Any:
    """Images and annotations, numbered from `first`, with the fields that all tools write."""
    images, annotations = [], []
    for image, picture in enumerate(pictures, start=first):
        assert picture.size
        width, height = picture.size
        images.append({"id": image, "file_name": name(picture), "width": width, "height": height})
        for item in picture.objects:
            assert item.box
            left, top, right, bottom = item.box
            box, area = [left, top, right - left, bottom - top], (right - left) * (bottom - top)
            annotation = {"id": len(annotations) + first, "image_id": image, "category_id": ids[item.label]}
            annotations.append(annotation | {"bbox": box, "area": area, "iscrowd": 0, "segmentation": []})
    return {"images": images, "annotations": annotations}


def place(picture: Picture, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(picture.path, path)


def roboflow(root: Path, pictures: Sequence[Picture], project: str = "street-scenes") -> None:
    """A folder a split with its own file; a category for the project, by which all others are grouped."""
    names = [project, *CLASSES]
    categories = [{"id": id, "name": name, "supercategory": project if id else "none"} for id, name in enumerate(names)]
    for split, part in (("train", pictures[:6]), ("valid", pictures[6:9]), ("test", pictures[9:])):
        ids = {name: id for id, name in enumerate(CLASSES, start=1)}
        data = lists(part, ids, first=0, name=lambda p: f"{p.id}_jpg.rf.{int(p.id):08x}.jpg")
        for picture, entry in zip(part, data["images"], strict=True):
            place(picture, root / split / entry["file_name"])
            entry |= {"license": 1, "date_captured": "2024-05-02T10:11:12+00:00"}
        info = {"year": "2024", "version": "1", "contributor": "", "date_created": "2024-05-02T10:11:12+00:00"}
        licences = [{"id": 1, "url": "https://creativecommons.org/licenses/by/4.0/", "name": "CC BY 4.0"}]
        text = json.dumps({"info": info, "licenses": licences, "categories": categories} | data)
        (root / split / "_annotations.coco.json").write_text(text)
    (root / "README.dataset.txt").write_text("a data set\n")


def cvat(root: Path, pictures: Sequence[Picture], subset: str = "", ids: Sequence[int] = (1, 2, 3)) -> None:
    """Files of all subsets in one folder; pictures in images/, in a folder for each subset if it has a name."""
    categories = [{"id": id, "name": name, "supercategory": ""} for id, name in zip(ids, CLASSES, strict=True)]
    data = lists(pictures, dict(zip(CLASSES, ids, strict=True)), first=1, name=lambda p: f"{p.id}.jpg")
    for picture, entry in zip(pictures, data["images"], strict=True):
        place(picture, root / "images" / subset / entry["file_name"])
        entry |= {"license": 0, "flickr_url": "", "coco_url": "", "date_captured": 0}
    for annotation in data["annotations"]:
        annotation["attributes"] = {"occluded": False, "rotation": 0.0}
    (root / "annotations").mkdir(exist_ok=True)
    info = {"contributor": "", "date_created": "", "description": "", "url": "", "version": "", "year": ""}
    licences = [{"name": "", "id": 0, "url": ""}]
    file = root / "annotations" / f"instances_{subset or 'default'}.json"
    file.write_text(json.dumps({"licenses": licences, "info": info, "categories": categories} | data))


def label_studio(root: Path, pictures: Sequence[Picture], before: str = "images/") -> None:
    """One file of everything beside images/, whose name is part of the pictures' names; ids from 0."""
    data = lists(
        pictures, {n: i for i, n in enumerate(CLASSES)}, first=0, name=lambda p: f"{before}0c3f2a1b-{p.id}.jpg"
    )
    for picture in pictures:
        place(picture, root / "images" / f"0c3f2a1b-{picture.id}.jpg")
    for annotation in data["annotations"]:
        annotation["ignore"] = 0
    categories = [{"id": id, "name": name} for id, name in enumerate(CLASSES)]
    info = {"year": 2024, "version": "1.0", "description": "", "contributor": "Label Studio", "url": ""}
    (root / "result.json").write_text(json.dumps(data | {"categories": categories, "info": info}))


def shown(split: Split) -> list[set[str]]:
    return [{split.classes[column] for column in np.flatnonzero(row == 1)} for row in split.labels]


def check_split(split: Split, pictures: Sequence[Picture]) -> None:
    """The split's labels and pixels are those of the pictures."""
    assert shown(split) == [{item.label for item in picture.objects} for picture in pictures]
    assert [Path(split.images.where(i)).read_bytes() for i in range(len(split))] == [
        picture.path.read_bytes() for picture in pictures
    ]


def all_faults(source: COCO, name: str, classes: Sequence[str] | None = None) -> tuple[Annotations, list[Fault]]:
    faults: list[Fault] = []
    return source.annotations(name, faults.append, classes), faults


def test_roboflow(tmp_path: Path, pictures: list[Picture]) -> None:
    roboflow(tmp_path, pictures)
    source = COCO(tmp_path)
    train = source.split("train")
    assert train.classes == ("street-scenes", *CLASSES)
    check_split(train, pictures[:6])
    check_split(source.split("valid", train.classes), pictures[6:9])
    assert source.names() == ["test", "train", "valid"]
    with pytest.raises(InputError, match=r"it has test, train, valid .*train_split and eval_split say which to take"):
        source.split("val")


def test_a_roboflow_project_that_is_called_as_its_class(tmp_path: Path, pictures: list[Picture]) -> None:
    roboflow(tmp_path, pictures, project="dog")
    assert COCO(tmp_path).split("train").classes == ("dog", "car", "person")


def test_cvat(tmp_path: Path, pictures: list[Picture]) -> None:
    """Subsets of one project, whose categories may be numbered in another order."""
    cvat(tmp_path, pictures[:8], "train")
    cvat(tmp_path, pictures[8:], "val", ids=(3, 2, 1))
    source = COCO(tmp_path)
    train = source.split("train")
    check_split(train, pictures[:8])
    val = source.split("val", train.classes)
    assert val.classes == train.classes == CLASSES
    check_split(val, pictures[8:])
    assert source.split("val").classes == tuple(reversed(CLASSES))


def test_boxes_are_where_they_were_drawn(tmp_path: Path, pictures: list[Picture]) -> None:
    """What detection will need comes from the same reader: boxes, crowds, ids and sizes."""
    cvat(tmp_path, pictures)
    found, faults = all_faults(COCO(tmp_path), "default")
    assert faults == []
    assert [picture.size for picture in found.pictures] == [picture.size for picture in pictures]
    for picture, drawn in zip(found.pictures, pictures, strict=True):
        assert [(i.label, i.box, i.crowd) for i in picture.objects] == [(i.label, i.box, False) for i in drawn.objects]


def test_label_studio_has_one_file_for_all(tmp_path: Path, pictures: list[Picture]) -> None:
    label_studio(tmp_path, pictures)
    source = COCO(tmp_path)
    check_split(source.split("train"), pictures)
    assert source.is_alone("train", "val")  # so that holding out is what gives something to test on
    root = f"dataset.root={tmp_path}"
    here(tmp_path, "check", "dataset=coco", root, "workers=0", code=1)  # all files are in both
    said = here(tmp_path, "check", "dataset=coco", root, "dataset.holdout=0.25", "workers=0")
    assert "coco: no faults, 1 warning; 12 images in" in said  # of a class with a single image
    words = ("model=resnet8", "model.weights=none", "dataset.size=32", "epochs=1", "batch_size=4", "gpus=[]", "name=ls")
    assert "train and val are the same images: what is tested on is learnt" in here(
        tmp_path, "train", "dataset=coco", root, *words[:-1], "name=learnt"
    )
    said = here(tmp_path, "train", "dataset=coco", root, "dataset.holdout=0.25", *words)
    assert "test on 3 images held out of train" in said
    assert "train on train: 9 of 12 images, 3 classes" in said
    results = json.loads((tmp_path / "outputs/train/ls/results.json").read_text())
    assert results["split"] == "3 images held out of train"
    assert results["report"]["images"] == 3


@pytest.mark.parametrize(
    ("before", "fix"),
    [
        ("images\\", r"has backslashes, as Windows writes paths: write / for them (sed -i 's|\\\\|/|g' on the file)"),
        ("..\\..\\media\\upload\\4\\", "has backslashes"),
        ("/data/local-files/?d=images/", "is an address, and nothing is fetched: put the picture into"),
        ("https://example.com/data/upload/1/", "is an address, and nothing is fetched"),
        ("s3://bucket/", "is an address"),
        ("/data/upload/1/", "is outside its folder: write it as it lies under"),
        ("C:/pictures/", "is outside its folder"),
        ("../media/", "is outside its folder"),
    ],
)
def test_names_that_lead_nowhere_are_told_with_what_to_write(
    tmp_path: Path, pictures: list[Picture], before: str, fix: str
) -> None:
    label_studio(tmp_path, pictures[:2], before)
    with pytest.raises(InputError) as error:
        COCO(tmp_path).split("train")
    assert str(error.value).startswith(f"{tmp_path}/result.json: images[0]: file_name '")
    assert fix in str(error.value)
    found, faults = all_faults(COCO(tmp_path), "train")
    assert [(fault.kind, fault.where[-9:]) for fault in faults] == [("file name", f"images[{i}]") for i in (0, 1)]
    assert found.pictures == ()


def test_the_named_fix_of_backslashes_is_one(tmp_path: Path, pictures: list[Picture]) -> None:
    label_studio(tmp_path, pictures, "images\\")
    file = tmp_path / "result.json"
    file.write_text(file.read_text().replace("\\\\", "/"))
    check_split(COCO(tmp_path).split("train"), pictures)


def test_ids_may_be_texts_and_annotations_need_none(tmp_path: Path, pictures: list[Picture]) -> None:
    cvat(tmp_path, pictures)
    file = tmp_path / "annotations/instances_default.json"
    data = json.loads(file.read_text())
    for image in data["images"]:
        image["id"] = f"uuid-{image['id']:02}"
    for annotation in data["annotations"]:
        del annotation["id"]
        annotation |= {"image_id": f"uuid-{annotation['image_id']:02}", "category_id": str(annotation["category_id"])}
    file.write_text(json.dumps(data))
    split = COCO(tmp_path).split("default")
    assert split.ids[0] == "uuid-01"
    check_split(split, pictures)


def test_classes_of_another_split_are_matched_by_name(
    tmp_path: Path, pictures: list[Picture], caplog: pytest.LogCaptureFixture
) -> None:
    cvat(tmp_path, pictures)
    source = COCO(tmp_path)
    known = ("bicycle", "person", "dog", "car")
    split = source.split("default", known)
    assert split.classes == known
    check_split(split, pictures)
    told = "its categories lack bicycle: classes are matched by name with those of the training split"
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [told]
    with pytest.raises(InputError, match=r"\d+ annotations are of the unknown class 'car'"):
        source.split("default", ("person", "dog"))
    kinds = [fault.kind for fault in all_faults(source, "default", ("person", "dog"))[1]]
    assert kinds == ["classes other than the training split's", "unknown class"]
    assert COCO(tmp_path, classes=known).split("default").classes == known
