"""Audits find every fault of a data set, and nothing in one without."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lshfm.datasets.annotations import Box
from lshfm.datasets.audit.images import Seen, inspect, same_content
from lshfm.datasets.audit.sources import Audit, audit
from lshfm.datasets.coco import COCO
from lshfm.datasets.manifest import Manifest
from lshfm.datasets.shapes import Shapes
from lshfm.datasets.voc import VOC
from lshfm.errors import InputError

OBJECT = "<object><name>{}</name><difficult>{}</difficult><bndbox>{}</bndbox></object>"
BOX = "<xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax>"
SIZE = "<size><width>6</width><height>8</height></size>"
INSIDE = BOX.format(1, 1, 8, 6)


def picture(path: Path, colour: int = 0, size: tuple[int, int] = (8, 6)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (colour, 0, 0)).save(path)


def checked(found: Audit) -> tuple[list[str], list[Seen]]:
    """Kinds of all faults, sorted, once the pictures have been decoded too."""
    seen = inspect(found, 0, lambda done, total: None)
    return sorted(fault.kind for fault in found.faults), seen


@pytest.fixture
def voc(tmp_path: Path) -> Callable[..., VOC]:
    """A devkit of one split `train` with these annotations, every picture there."""

    def build(listed: str | None = None, **annotations: str) -> VOC:
        folder = tmp_path / "VOC2007"
        for part in ("ImageSets/Main", "Annotations", "JPEGImages"):
            (folder / part).mkdir(parents=True)
        for colour, (name, text) in enumerate(annotations.items()):
            (folder / "Annotations" / f"{name}.xml").write_text(f"<annotation>{text}</annotation>")
            picture(folder / "JPEGImages" / f"{name}.jpg", 9 * colour)
        (folder / "ImageSets/Main/train.txt").write_text("\n".join(annotations) if listed is None else listed)
        return VOC(tmp_path)

    return build


class TestVOC:
    def test_nothing_is_found_in_a_good_one(self, voc: Callable[..., VOC]) -> None:
        found = audit(voc(a=OBJECT.format("dog", 0, INSIDE), b=OBJECT.format("cat", 1, INSIDE)), "train")
        assert checked(found)[0] == []
        assert (found.present, found.difficult) == (Counter(dog=1), Counter(cat=1))

    def test_the_real_piece_has_none(self, test_data: Path) -> None:
        found = audit(VOC(test_data), "trainval")
        found.images = type(found.images)(found.images.paths[:40])  # type: ignore[attr-defined,call-arg]
        assert checked(found)[0] == []
        assert found.present["person"] + found.difficult["person"] == 262

    @pytest.mark.parametrize(
        ("text", "kind"),
        [
            (OBJECT.format("dgo", 0, INSIDE) + OBJECT.format("dog", 0, INSIDE), "unknown class"),
            (OBJECT.format("dog", 0, BOX.format(1, 1, 10, 6)), "box outside the image"),
            (OBJECT.format("dog", 0, BOX.format(-1, 1, 8, 6)), "box outside the image"),
            (OBJECT.format("dog", 0, BOX.format(5, 1, 4, 6)), "box without area"),
            (OBJECT.format("dog", 0, BOX.format("nan", 1, 8, 6)), "box without area"),
            (OBJECT.format("dog", 0, BOX.format("x", 1, 8, 6)), "broken box"),
            (OBJECT.format("dog", 2, INSIDE), "broken annotation"),
            ("<object>", "broken annotation"),
            ("", "image without label"),
            (SIZE + OBJECT.format("dog", 0, INSIDE), "size other than annotated"),
        ],
    )  # fmt: skip
    def test_a_fault_of_an_annotation(self, voc: Callable[..., VOC], text: str, kind: str) -> None:
        assert checked(audit(voc(a=text, b=OBJECT.format("cat", 0, INSIDE)), "train"))[0] == [kind]

    def test_a_pixel_of_rounding_is_no_fault(self, voc: Callable[..., VOC]) -> None:
        assert checked(audit(voc(a=OBJECT.format("dog", 0, BOX.format(0, 0, 9, 7))), "train"))[0] == []

    def test_what_is_missing_broken_or_too_much(self, voc: Callable[..., VOC], tmp_path: Path) -> None:
        good = OBJECT.format("dog", 0, INSIDE)
        source = voc("a\nb\nc\nd\na\n", a=good, b=good, c=good, d=good, e=good)
        folder = tmp_path / "VOC2007"
        (folder / "Annotations/b.xml").unlink()
        (folder / "JPEGImages/c.jpg").unlink()
        (folder / "JPEGImages/d.jpg").write_bytes(b"no picture")
        (folder / "JPEGImages/e.jpg").unlink()
        kinds = ["annotation without image", "broken image", "duplicate", "image without annotation", "missing image"]
        assert checked(audit(source, "train"))[0] == kinds

    def test_an_id_does_not_lead_out(self, voc: Callable[..., VOC], tmp_path: Path) -> None:
        picture(tmp_path / "outside.jpg")
        (tmp_path / "outside.xml").write_text("<annotation/>")
        found = audit(voc("../../outside\na", a=OBJECT.format("dog", 0, INSIDE)), "train")
        kinds, seen = checked(found)
        assert kinds == ["broken annotation"]
        assert len(seen) == 1

    def test_no_such_split(self, voc: Callable[..., VOC]) -> None:
        with pytest.raises(InputError, match="No split 'test'"):
            audit(voc(a=""), "test")


@pytest.fixture
def coco(tmp_path: Path) -> Callable[..., COCO]:
    """A set of one split `train`; images 1 and 2 are there, of 8 x 6 pixels."""

    def build(*, keep: str = "annotated", **lists: Any) -> COCO:
        images = [{"id": i, "file_name": f"{i}.png", "width": 8, "height": 6} for i in (1, 2)]
        annotations = [{"id": i, "image_id": i, "category_id": 5, "bbox": [0, 0, 8, 6]} for i in (1, 2)]
        data = {"images": images, "annotations": annotations, "categories": [{"id": 5, "name": "dog"}]}
        for key, entries in lists.items():
            data[key] = [*data[key], *entries] if isinstance(entries, list) else entries
        for number in (1, 2):
            picture(tmp_path / f"train/{number}.png", 100 * number)
        (tmp_path / "annotations").mkdir()
        (tmp_path / "annotations/instances_train.json").write_text(json.dumps(data))
        return COCO(tmp_path, keep=keep)

    return build


class TestCOCO:
    def test_nothing_is_found_in_a_good_one(self, coco: Callable[..., COCO]) -> None:
        found = audit(coco(), "train")
        assert checked(found)[0] == []
        assert found.present == Counter(dog=2)

    @pytest.mark.parametrize(
        ("key", "entry", "kind"),
        [
            ("annotations", {"id": 3, "image_id": 9, "category_id": 5}, "annotation without image"),
            ("annotations", {"id": 3, "image_id": 1, "category_id": 6}, "unknown class"),
            ("annotations", {"id": 2, "image_id": 1, "category_id": 5}, "duplicate"),
            ("annotations", {"id": 3, "image_id": 1.0, "category_id": 5}, "broken annotation"),
            ("annotations", {"id": 3, "image_id": 1, "category_id": 5, "bbox": [0, 0, 12, 6]}, "box outside the image"),
            ("annotations", {"id": 3, "image_id": 1, "category_id": 5, "bbox": [0, 0, 0, 6]}, "box without area"),
            ("annotations", {"id": 3, "image_id": 1, "category_id": 5, "bbox": [0, "a"]}, "broken box"),
            ("images", 7, "broken annotation"),
            ("images", {"id": 2, "file_name": "3.png"}, "duplicate"),
            ("categories", {"id": 6, "name": 6}, "broken annotation"),
        ],
    )
    def test_a_fault_of_an_entry(self, coco: Callable[..., COCO], key: str, entry: Any, kind: str) -> None:
        assert checked(audit(coco(**{key: [entry]}), "train"))[0] == [kind]

    def test_images_without_annotation_are_left_out_unless_all_are_kept(self, coco: Callable[..., COCO]) -> None:
        source = coco(images=[{"id": 3, "file_name": "3.png"}])
        assert checked(audit(source, "train"))[0] == []
        source.keep = "all"
        assert checked(audit(source, "train"))[0] == ["missing image"]

    def test_a_file_name_that_leads_out_is_not_opened(self, coco: Callable[..., COCO], tmp_path: Path) -> None:
        picture(tmp_path / "outside.png")
        entry = {"id": 3, "file_name": "../outside.png"}
        found = audit(coco(images=[entry], annotations=[{"id": 3, "image_id": 3, "category_id": 5}]), "train")
        kinds, seen = checked(found)
        assert kinds == ["file name"]
        assert len(seen) == 2

    @pytest.mark.parametrize("text", ["{", "[]", '{"images": NaN}'])
    def test_a_file_that_is_none(self, coco: Callable[..., COCO], tmp_path: Path, text: str) -> None:
        source = coco()
        (tmp_path / "annotations/instances_train.json").write_text(text)
        kinds, _ = checked(audit(source, "train"))
        assert set(kinds) == {"broken annotation"}


class TestManifest:
    def build(self, folder: Path, *rows: str) -> Manifest:
        picture(folder / "a.png")
        (folder / "train.csv").write_text("\n".join(["path,labels", *rows]))
        (folder / "classes.txt").write_text("dog\ncat\n")
        return Manifest(folder)

    def test_nothing_is_found_in_a_good_one(self, tmp_path: Path) -> None:
        found = audit(self.build(tmp_path, "a.png,dog;cat"), "train")
        assert checked(found)[0] == []
        assert found.present == Counter(dog=1, cat=1)

    @pytest.mark.parametrize(
        ("row", "kinds"),
        [
            ("b.png,dog", ["missing image"]),
            ("a.png,dgo", ["unknown class"]),  # a row a label
            ("a.png,dog;dgo", ["several rows of one image", "unknown class"]),
            ("./a.png,", ["duplicate", "image without label"]),
            ("./a.png,dog,cat", ["broken annotation"]),
        ],
    )
    def test_a_fault_of_a_row(self, tmp_path: Path, row: str, kinds: list[str]) -> None:
        assert checked(audit(self.build(tmp_path, "a.png,dog", row), "train"))[0] == kinds


def test_a_data_set_of_another_kind_is_read_as_training_reads_it() -> None:
    source = Shapes(num_train=20)
    found = audit(source, "train")
    labels = source.split("train").labels
    assert checked(found)[0] == []
    assert found.present.total() == (labels > 0).sum()
    assert found.difficult.total() == (labels == 0).sum()


def test_equal_files_are_found_within_and_between_splits(tmp_path: Path) -> None:
    for name, colour in (("a", 1), ("b", 2), ("c", 1), ("d", 2)):
        picture(tmp_path / f"{name}.png", colour)
    (tmp_path / "train.csv").write_text("path,labels\na.png,x\nb.png,x\nc.png,x\n")
    (tmp_path / "test.csv").write_text("path,labels\nd.png,x\n")
    splits = {}
    for name in ("train", "test"):
        found = audit(Manifest(tmp_path), name)
        splits[name] = found.images, checked(found)[1]
    within, between = same_content(splits)
    assert (within.where, within.what) == (f"train: {tmp_path}/c.png", f"has the content of train: {tmp_path}/a.png")
    assert (between.where, between.what) == (f"test: {tmp_path}/d.png", f"has the content of train: {tmp_path}/b.png")


def test_a_box_by_hand() -> None:
    assert Box(0, 0, 8, 6).fault(8, 6) is None
    assert Box(-1, -1, 9, 7).fault(8, 6) is None
    assert Box(0, 0, 9.5, 6).fault(8, 6) == "0,0 to 9.5,6, in an image of 8 x 6"
