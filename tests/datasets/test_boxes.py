"""Boxes through the readers of the formats: cut to their pictures, difficult and crowd objects, sizes, faults."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lshfm.datasets.boxes import CROWD, DIFFICULT, PLAIN, BoxSplit, box_split, learnt
from lshfm.datasets.coco import COCO
from lshfm.datasets.manifest import Manifest
from lshfm.datasets.voc import VOC
from lshfm.datasets.voc_years import VOCYears
from lshfm.errors import InputError

SHARED = Path(__file__).parents[3] / "shared" / "data"
Objects = Sequence[tuple[str, Sequence[float], int]]


def voc_set(root: Path, pictures: dict[str, Objects], year: int = 2007, split: str = "trainval") -> Path:
    """Pictures of 60 x 40, each with objects of a name, xmin, ymin, xmax, ymax as VOC has them, and difficult."""
    folder = root / f"VOC{year}"
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{id}\n" for id in pictures))
    for id, objects in pictures.items():
        Image.new("RGB", (60, 40)).save(folder / "JPEGImages" / f"{id}.jpg")
        items = "".join(voc_object(*each) for each in objects)
        size = "<size><width>60</width><height>40</height></size>"
        (folder / "Annotations" / f"{id}.xml").write_text(f"<annotation>{size}{items}</annotation>")
    return root


def voc_object(name: str, box: Sequence[float], difficult: int) -> str:
    edges = "".join(f"<{e}>{v}</{e}>" for e, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{edges}</bndbox>{part}</object>"


def rows(split: BoxSplit, image: int) -> list[list[float]]:
    there = split.labels[image][split.labels[image, :, 0] > 0]
    assert np.allclose(there[:, 6], (there[:, 3:5] - there[:, 1:3]).prod(1))  # these files tell no other areas
    found: list[list[float]] = there[:, :6].tolist()
    return found


class TestVoc:
    def test_boxes_count_from_0_and_are_half_open(self, tmp_path: Path) -> None:
        """Fractions stay, an object's part has a box of its own, and images without objects are there."""
        root = voc_set(tmp_path, {"a": [("dog", (1, 1, 60, 40), 0), ("cat", (2.5, 3, 10.5, 20), 1)], "b": []})
        split = box_split(VOC(root, unlabelled="negative"), "trainval")
        assert rows(split, 0) == [[12, 0, 0, 60, 40, PLAIN], [8, 1.5, 2, 10.5, 20, DIFFICULT]]
        assert rows(split, 1) == []
        assert split.labels.dtype == np.float32
        assert split.sizes.tolist() == [[60, 40], [60, 40]]
        assert learnt(split.labels).tolist() == [[True, False], [False, False]]

    def test_what_reaches_out_is_cut_and_what_has_no_area_is_left_out(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        objects = [("dog", (50, 30, 75, 60), 0), ("cat", (70, 1, 80, 10), 0), ("cow", (9, 9, 8, 9), 0),
                   ("car", (0, 5, 20, 20), 0)]  # fmt: skip
        with caplog.at_level(logging.WARNING, "lshfm"):
            split = box_split(VOC(voc_set(tmp_path, {"a": objects})), "trainval")
        assert rows(split, 0) == [[12, 49, 29, 60, 40, 0], [7, 0, 4, 20, 20, 0]]
        assert "1 object reaching out of their image, cut" in caplog.text
        assert "2 objects without area inside their image, left out" in caplog.text
        assert (
            "1 of 2 objects begin a pixel before their image: were they counted from 0? VOC counts from 1"
            in caplog.text
        )

    def test_an_object_without_a_box_is_left_out(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        root = voc_set(tmp_path, {"a": [("dog", (1, 1, 9, 9), 0)]})
        path = root / "VOC2007" / "Annotations" / "a.xml"
        path.write_text(
            path.read_text().replace("<xmin>1</xmin><ymin>1</ymin><xmax>9", "<xmin>x</xmin><ymin>1</ymin><xmax>9")
        )
        with caplog.at_level(logging.WARNING, "lshfm"):
            assert rows(box_split(VOC(root), "trainval"), 0) == []
        assert "1 object without a box, left out" in caplog.text

    def test_shares_of_the_image_are_no_pixels(self, tmp_path: Path) -> None:
        root = voc_set(tmp_path, {"a": [("dog", (0.1, 0.2, 0.5, 0.7), 0)]})
        with pytest.raises(InputError, match="trainval: all boxes lie within the first pixel: are they shares"):
            box_split(VOC(root), "trainval")

    def test_years_one_after_the_other(self, tmp_path: Path) -> None:
        voc_set(tmp_path, {"000001": [("dog", (1, 1, 9, 9), 0)]}, 2007)
        voc_set(tmp_path, {"2008_1": [("cat", (1, 1, 9, 9), 0)]}, 2012)
        voc_set(tmp_path, {"000002": [("cow", (1, 1, 9, 9), 0)]}, 2007, "test")
        reader = VOCYears(tmp_path, {"trainval": [2007, 2012], "test": [2007]})
        assert box_split(reader, "trainval").ids == ("000001", "2008_1")
        assert box_split(reader, "test").ids == ("000002",)
        with pytest.raises(InputError, match="no years are named for split 'val'"):
            box_split(reader, "val")
        with pytest.raises(InputError, match=r"No VOC2012 at root=.*, which is the folder of one year"):
            box_split(VOCYears(tmp_path / "VOC2007", reader.years), "trainval")
        assert box_split(VOCYears(tmp_path / "VOC2007", reader.years), "test").ids == ("000002",)
        with pytest.raises(InputError, match="must say the years of each split"):
            VOCYears(tmp_path, {"trainval": 2007})

    @pytest.mark.skipif(not SHARED.exists(), reason="needs the real images")
    def test_the_real_piece(self) -> None:
        """Counted from its files by another way: grep."""
        reader = VOCYears(SHARED / "VOCdevkit", {"trainval": [2007, 2012], "test": [2007]})
        split = box_split(reader, "trainval")
        texts = [(path.parents[1] / "Annotations" / f"{path.stem}.xml").read_text() for path in split.images.paths]
        objects = sum(text.count("<object>") for text in texts)
        difficult = sum(text.count("<difficult>1</difficult>") for text in texts)
        assert len(split) == 700
        assert int((split.labels[..., 0] > 0).sum()) == objects
        assert int(learnt(split.labels).sum()) == objects - difficult


class TestCoco:
    def test_what_may_be_a_crowd_is_left_out_and_told(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        given = [{"image_id": 1, "category_id": 7, "bbox": [1, 1, 9, 9], "iscrowd": crowd} for crowd in ("1", 1)]
        with caplog.at_level(logging.INFO, "lshfm"):
            assert rows(box_split(self.written(tmp_path, given), "train"), 0) == [[2, 1, 1, 10, 10, CROWD]]
        assert "1 object without a box, left out" in caplog.text

    def test_sides_that_no_picture_has_are_not_believed(self, tmp_path: Path) -> None:
        reader = self.written(tmp_path, [{"image_id": 1, "category_id": 7, "bbox": [10, 5, 600, 20]}])
        path = tmp_path / "annotations" / "instances_train.json"
        path.write_text(path.read_text().replace('"width": 60', f'"width": {10**30}'))
        split = box_split(reader, "train")
        assert split.sizes.tolist() == [[60, 40], [60, 40]]
        assert rows(split, 0) == [[2, 10, 5, 60, 25, PLAIN]]

    def written(
        self, root: Path, annotations: list[dict], categories: Sequence[tuple[int, str]] = ((7, "dog"), (3, "cat"))
    ) -> COCO:
        (root / "annotations").mkdir(parents=True)
        (root / "train").mkdir()
        for id in (1, 2):
            Image.new("RGB", (60, 40)).save(root / "train" / f"{id}.jpg")
        images = [{"id": id, "file_name": f"{id}.jpg", "width": 60, "height": 40} for id in (1, 2)]
        own = [{"id": number, "name": name} for number, name in categories]
        entries = [{"id": number, **each} for number, each in enumerate(annotations)]
        text = json.dumps({"images": images, "annotations": entries, "categories": own})
        (root / "annotations" / "instances_train.json").write_text(text)
        return COCO(root, keep="all")

    def test_corners_crowds_and_classes_by_id(self, tmp_path: Path) -> None:
        given = [
            {"image_id": 1, "category_id": 7, "bbox": [10, 5, 60, 20], "iscrowd": 0},
            {"image_id": 1, "category_id": 3, "bbox": [0, 0, 5, 5.5], "iscrowd": 1},
            {"image_id": 1, "category_id": 3, "bbox": [3, 3, 0, 4]},
        ]
        split = box_split(self.written(tmp_path, given), "train")
        assert split.classes == ("cat", "dog")
        assert rows(split, 0) == [[2, 10, 5, 60, 25, PLAIN], [1, 0, 0, 5, 5.5, CROWD]]
        assert rows(split, 1) == []

    def test_a_box_before_the_image_is_cut_without_a_word_on_voc(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        given = [{"image_id": 1, "category_id": 7, "bbox": [-1, -1, 9, 9]}]
        with caplog.at_level(logging.WARNING, "lshfm"):
            assert rows(box_split(self.written(tmp_path, given), "train"), 0) == [[2, 0, 0, 8, 8, PLAIN]]
        assert "VOC" not in caplog.text

    def test_a_file_with_its_categories_in_another_order_means_the_same(self, tmp_path: Path) -> None:
        """Classes are matched by name with those of the training split."""
        box = {"image_id": 1, "category_id": 7, "bbox": [1, 1, 5, 5]}
        first = box_split(self.written(tmp_path / "a", [box]), "train")
        other = self.written(tmp_path / "b", [{**box, "category_id": 1}], [(1, "dog"), (2, "cat")])
        assert np.array_equal(first.labels, box_split(other, "train", first.classes).labels)

    def test_sizes_come_from_the_file_where_the_annotation_has_none(self, tmp_path: Path) -> None:
        reader = self.written(tmp_path, [])
        path = tmp_path / "annotations" / "instances_train.json"
        path.write_text(path.read_text().replace('"width": 60, "height": 40', '"width": null'))
        assert box_split(reader, "train").sizes.tolist() == [[60, 40], [60, 40]]


class TestManifest:
    def of(self, root: Path, text: str, ending: str = "csv", **options: object) -> BoxSplit:
        for name in ("a.jpg", "b.jpg"):
            Image.new("RGB", (60, 40)).save(root / name)
        (root / f"train.{ending}").write_text(text)
        return box_split(Manifest(root, unlabelled="negative", **options), "train")

    def test_a_row_a_box(self, tmp_path: Path) -> None:
        """Of a difficult object the class stands under difficult; a row with nothing else is background."""
        text = "path,label,difficult,xmin,ymin,xmax,ymax\na.jpg,dog,,1,2,30.5,40\na.jpg,,cat,0,0,5,5\nb.jpg,,,,,,\n"
        split = self.of(tmp_path, text, classes=["cat", "dog"])
        assert rows(split, 0) == [[2, 1, 2, 30.5, 40, PLAIN], [1, 0, 0, 5, 5, DIFFICULT]]
        assert rows(split, 1) == []
        assert split.sizes.tolist() == [[60, 40], [60, 40]]

    def test_difficult_may_be_a_flag(self, tmp_path: Path) -> None:
        """As exporters write it: of the label beside it; of a row without an object 0 says nothing."""
        text = "path,label,difficult,xmin,ymin,xmax,ymax\na.jpg,dog,0,1,2,5,6\na.jpg,cat,1,0,0,5,5\nb.jpg,,0,,,,\n"
        expected = [[2, 1, 2, 5, 6, PLAIN], [1, 0, 0, 5, 5, DIFFICULT]]
        split = self.of(tmp_path, text, classes=["cat", "dog"])
        assert (rows(split, 0), rows(split, 1)) == (expected, [])
        (tmp_path / "train.csv").unlink()
        boxes = ({"label": "dog", "difficult": False, "xmin": 1, "ymin": 2, "xmax": 5, "ymax": 6},
                 {"label": "cat", "difficult": 1, "xmin": 0, "ymin": 0, "xmax": 5, "ymax": 5})  # fmt: skip
        text = "".join(json.dumps({"path": "a.jpg", **each}) + "\n" for each in boxes)
        assert rows(self.of(tmp_path, text, "jsonl", classes=["cat", "dog"]), 0) == expected

    def test_json_lines_and_two_boxes_of_a_class(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        entries = [{"path": "a.jpg", "label": "dog", "x1": 1, "y1": 2, "x2": x, "y2": 9} for x in (5, 7)]
        entries.append({"path": "b.jpg", "labels": []})
        with caplog.at_level(logging.WARNING, "lshfm"):
            split = self.of(tmp_path, "".join(json.dumps(entry) + "\n" for entry in entries), "jsonl")
        assert rows(split, 0) == [[1, 1, 2, 5, 9, 0], [1, 1, 2, 7, 9, 0]]
        assert caplog.text == ""

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("path,label,xmin,ymin,xmax\na.jpg,dog,1,2,3\n", "a box takes xmin, ymin, xmax, ymax: no ymax"),
            ("path,label,xmin,ymin,xmax,ymax\na.jpg,dog,1,2,x,4\n", "line 2: xmax is 'x', expected a number of pixels"),
            ("path,label,xmin,ymin,xmax,ymax\na.jpg,dog,1,2,,4\n", "xmax is '', expected a number of pixels"),
            ("path,label,xmin,ymin,xmax,ymax\na.jpg,dog;cat,1,2,3,4\n", "takes one label, and this one has 2"),
            ("path,label,xmin,x1,ymin,xmax,ymax\na.jpg,dog,1,1,2,3,4\n", "both 'xmin' and 'x1' stand for the left"),
        ],
    )  # fmt: skip
    def test_what_is_no_box_is_refused(self, text: str, message: str, tmp_path: Path) -> None:
        with pytest.raises(InputError) as error:
            self.of(tmp_path, text)
        assert message in str(error.value)
