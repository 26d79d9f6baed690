"""What a check says of sets of boxes: one message for each kind, whatever the format."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lshfm.datasets.annotations import Fault, Grade
from lshfm.datasets.audit.boxes import box_faults
from lshfm.datasets.audit.images import inspect
from lshfm.datasets.audit.sources import Audit, audit
from lshfm.datasets.boxes import box_split
from lshfm.datasets.coco import COCO
from lshfm.datasets.manifest import Manifest
from lshfm.datasets.reader import Reader
from lshfm.datasets.voc import VOC

CATEGORIES = ({"id": 3, "name": "dog"}, {"id": 7, "name": "cat"})


def coco(root: Path, *boxes: Sequence[float], categories: Sequence[Any] = CATEGORIES, split: str = "train") -> COCO:
    """A set of two images of 60 x 40 pixels, all boxes in the first, of the first category; a cat in both."""
    images = [{"id": number, "file_name": f"{number}.png", "width": 60, "height": 40} for number in (1, 2)]
    objects = [{"id": n, "image_id": 1, "category_id": categories[0]["id"], "bbox": box}
               for n, box in enumerate(boxes, start=10)]  # fmt: skip
    cat = next(each["id"] for each in categories if each["name"] == "cat")
    objects += [{"id": n, "image_id": n, "category_id": cat, "bbox": [0, 0, 9, 9]} for n in (1, 2)]
    (root / split).mkdir(parents=True)
    for number in (1, 2):
        Image.new("RGB", (60, 40), (number, 0, 0)).save(root / split / f"{number}.png")
    (root / "annotations").mkdir(exist_ok=True)
    content = {"images": images, "annotations": objects, "categories": list(categories)}
    (root / f"annotations/instances_{split}.json").write_text(json.dumps(content))
    return COCO(root, keep="all")


def voc(root: Path, *objects: str) -> VOC:
    for part in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (root / "VOC2007" / part).mkdir(parents=True)
    (root / "VOC2007/ImageSets/Main/train.txt").write_text("a")
    (root / "VOC2007/Annotations/a.xml").write_text(f"<annotation>{''.join(objects)}</annotation>")
    Image.new("RGB", (60, 40)).save(root / "VOC2007/JPEGImages/a.jpg")
    return VOC(root, unlabelled="negative", classes=["person"])


def voc_object(*edges: float, more: str = "") -> str:
    names = ("xmin", "ymin", "xmax", "ymax")
    box = "".join(f"<{name}>{edge}</{name}>" for name, edge in zip(names, edges, strict=True))
    return f"<object><name>person</name><bndbox>{box}</bndbox>{more}</object>"


def manifest(root: Path, *rows: str) -> Manifest:
    (root / "train.csv").write_text("\n".join(["path,label,difficult,xmin,ymin,xmax,ymax,id", *rows]))
    for name in ("a.png", "b.png"):
        Image.new("RGB", (60, 40)).save(root / name)
    return Manifest(root, unlabelled="negative")


def told(source: Reader, split: str = "train", first: Audit | None = None) -> dict[str, Fault]:
    """Everything that is said of a split, by kind; each kind once."""
    found = audit(source, split, first.classes if first else None)
    inspect(found, 0, lambda _done, _total: None)
    faults = [*found.faults, *box_faults(found, split, first)]
    kinds = {fault.kind: fault for fault in faults}
    assert len(kinds) == len(faults)
    return kinds


def test_a_good_set_is_silent(tmp_path: Path) -> None:
    assert told(coco(tmp_path, [1, 0, 20, 20])) == {}


@pytest.mark.parametrize(
    ("box", "kind", "grade", "words"),
    [
        ([5, 5, 0, 9], "box without area", Grade.STOPS, "annotation 10: is empty or not a number: 5,5 to 5,14"),
        ([50, 5, 30, 9], "box outside the image", Grade.STOPS, "50,5 to 80,14, in an image of 60 x 40"),
        ([5.5, 5, 9, 9], "fractions of pixels", Grade.TELLS, "1 of 4 boxes with fractions of pixels"),
        ([], "objects without a box", Grade.WARNS, "1 of 4 objects without a box, left out"),
        ([1, 2, "x", 4], "broken box", Grade.COUNTS, "bbox is no list of four numbers"),
    ],
)  # fmt: skip
def test_a_box(tmp_path: Path, box: Any, kind: str, grade: Grade, words: str) -> None:
    faults = told(coco(tmp_path, box, [1, 0, 20, 20]))
    assert list(faults) == [kind]
    assert faults[kind].grade is grade
    assert words in f"{faults[kind].where}: {faults[kind].what}"


def test_an_image_without_objects_and_a_class_without_any(tmp_path: Path) -> None:
    faults = told(manifest(tmp_path, "a.png,dog,,0,4,20,30,", "a.png,,cat,5,4,20,30,", "b.png,,,,,,,"))
    assert {kind: fault.grade for kind, fault in faults.items()} == {
        "images without an object": Grade.TELLS, "classes without an object": Grade.WARNS,
    }  # fmt: skip
    assert "1 of 2 images without an object, taken as background" in faults["images without an object"].what
    assert "aside: cat; nothing is learnt of them" in faults["classes without an object"].what


def test_crowds_and_parts_are_named(tmp_path: Path) -> None:
    source = coco(tmp_path / "coco", [1, 0, 20, 20])
    path = tmp_path / "coco/annotations/instances_train.json"
    content = json.loads(path.read_text())
    content["annotations"].append({"id": 99, "image_id": 2, "category_id": 3, "bbox": [0, 0, 5, 5], "iscrowd": 1})
    path.write_text(json.dumps(content))
    assert told(source)["crowds"].what.startswith("1 of 4 objects standing for many")
    part = "<part><name>head</name><bndbox><xmin>3</xmin><ymin>3</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></part>"
    faults = told(voc(tmp_path, voc_object(1, 2, 30, 30, more=part * 2)))
    assert faults["parts of objects"].what.startswith("2 parts of objects, as heads and hands")
    assert len(box_split(VOC(tmp_path, classes=["person"]), "train").labels[0]) == 1


def test_boxes_that_seem_to_be_counted_from_another_pixel(tmp_path: Path) -> None:
    kind = "boxes that may be counted from another pixel"
    assert "were they counted from 0? VOC counts from 1" in told(voc(tmp_path, voc_object(0, 3, 9, 9)))[kind].what
    rows = [f"a.png,dog,,1,{number},20,30," for number in range(2, 8)]
    assert "were they counted from 1? This format counts from 0" in told(manifest(tmp_path, *rows))[kind].what
    assert kind not in told(manifest(tmp_path, *rows, "b.png,dog,,0,3,5,5,"))


def test_shares_of_the_image_are_no_pixels(tmp_path: Path) -> None:
    faults = told(manifest(tmp_path, "a.png,dog,,0.1,0.2,0.5,0.9,", "b.png,dog,,0,0.2,1,0.9,"))
    assert faults["boxes that are no pixels"].grade is Grade.COUNTS


def test_ids_that_are_there_twice(tmp_path: Path) -> None:
    faults = told(manifest(tmp_path, "a.png,dog,,0,2,20,30,x", "b.png,dog,,0,2,20,30,x"))
    assert "image id 'x' is there several times" in faults["duplicate"].what


def test_categories_in_another_order_are_matched_by_name(tmp_path: Path) -> None:
    first = audit(coco(tmp_path, [1, 0, 20, 20]), "train")
    others = ({"id": 5, "name": "dog"}, {"id": 2, "name": "cat"})
    source = coco(tmp_path, [1, 0, 20, 20], categories=others, split="test")
    found = audit(source, "test", first.classes)
    words = [fault.what for fault in (*found.faults, *box_faults(found, "test", first))]
    assert words == [
        "its categories are in another order, by their ids: classes are matched by name",
        "category ids differ, as 'dog' is 3 in the training split and 5 here: classes are matched by name",
    ]
    assert box_split(source, "test", first.classes).category_ids == (5, 2)
    assert box_split(source, "test", (*first.classes, "cow")).category_ids == (5, 2, 6)
