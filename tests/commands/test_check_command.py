"""lshfm check through the command line: what it says, prints and ends with."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lshfm.datasets.annotations import FEW_IMAGES
from tests.cli.conftest import here


def manifest(folder: Path, *, broken: bool = False) -> list[str]:
    for name in ("a", "b", "c"):
        Image.new("RGB", (8, 6), (ord(name), 0, 0)).save(folder / f"{name}.png")
    if broken:
        (folder / "b.png").write_bytes(b"no picture")
    (folder / "train.csv").write_text("path,labels\na.png,dog;cat\nc.png,dog;cat\n" + "gone.png,dog\n" * broken)
    (folder / "test.csv").write_text("path,labels\nb.png,dog;cat\n")
    return ["check", "dataset=manifest", f"dataset.root={folder}"]


def test_a_good_set(tmp_path: Path) -> None:
    said = here(tmp_path, *manifest(tmp_path))
    assert "manifest: no faults; 3 images in" in said
    assert "images/s" in said
    assert not (tmp_path / "outputs").exists()


def test_faults_are_listed_and_give_exit_code_1(tmp_path: Path) -> None:
    said = here(tmp_path, *manifest(tmp_path, broken=True), code=1)
    assert f"train: missing image: 1\n  {tmp_path}/gone.png: cannot be read" in said
    assert f"test: broken image: 1\n  {tmp_path}/b.png: is not an image that Pillow reads" in said
    assert "2 faults" in said
    assert "error" not in said


def test_json_is_all_that_is_printed(tmp_path: Path) -> None:
    found = json.loads(here(tmp_path, *manifest(tmp_path, broken=True), "format=json", code=1))
    assert found["num_faults"] == 2
    assert found["splits"]["train"]["classes"]["dog"] == {"present": 3, "difficult": 0}
    assert [fault["kind"] for fault in found["splits"]["test"]["faults"]] == ["broken image"]
    assert (found["images"], found["dataset"]) == (4, "manifest")


def test_wrong_input_is_exit_code_2(tmp_path: Path) -> None:
    words = manifest(tmp_path)
    assert "No split 'val'" in here(tmp_path, *words, "dataset.eval_split=val", code=2)
    assert "format=xml: must be one of table, json" in here(tmp_path, *words, "format=xml", code=2)
    assert "gpus: no such key" in here(tmp_path, *words, "gpus=[]", code=2)
    assert "dataset.root" in here(tmp_path, "check", "dataset=manifest", code=2)


def test_help_names_its_keys(tmp_path: Path) -> None:
    said = here(tmp_path, "check", "--help")
    assert "format" in said
    assert "gpus" not in said


def coco(folder: Path, **changed: Any) -> list[str]:
    """A set of one image, of which the annotation or the picture's name may be changed."""
    image = {"id": 1, "file_name": changed.pop("file_name", "a.png"), "width": 8, "height": 6}
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 8, 6]} | changed
    categories = [{"id": 1, "name": "[bold]dog"}, {"id": 2, "name": "cat"}]
    lists = {"images": [image], "annotations": [annotation], "categories": categories}
    (folder / "annotations").mkdir()
    (folder / "train").mkdir()
    (folder / "annotations" / "instances_train.json").write_text(json.dumps(lists))
    Image.new("RGB", (8, 6)).save(folder / "train" / "a.png")
    return ["check", "dataset=coco", f"dataset.root={folder}", "dataset.train_split=train", "dataset.eval_split=train"]


def test_classes_that_no_image_shows_are_listed(tmp_path: Path) -> None:
    lines = [re.findall(r"[^\s│]+", line) for line in here(tmp_path, *coco(tmp_path)).splitlines()]
    assert ["[bold]dog", "1", "(0)"] in lines
    assert ["cat", "0"] in lines


def test_numbers_beyond_all_images(tmp_path: Path) -> None:
    said = here(tmp_path, *coco(tmp_path, bbox=[0, 0, 10**400, 1]), code=1)
    assert "annotation 1: bbox holds a number beyond all images: [0, 0, 1000" in said


@pytest.mark.parametrize("name", ["a\ud800b.png", "a\x1b[2Jb.png", "a\nb.png"])
def test_names_that_no_terminal_can_show(tmp_path: Path, name: str) -> None:
    said = here(tmp_path, *coco(tmp_path, file_name=name), code=1)
    assert name not in said
    assert "1 fault," in said


def test_one_fault_is_one_fault(tmp_path: Path) -> None:
    """An unreadable training list leaves the test labels without classes, which is no fault of theirs."""
    words = manifest(tmp_path)
    (tmp_path / "train.csv").write_text("nothing,known\n")
    found = json.loads(here(tmp_path, *words, "format=json", code=1))
    assert [split["faults"] for split in found["splits"].values()][1] == []
    assert found["num_faults"] == 1


def test_warnings_are_no_faults_and_training_says_them_too(tmp_path: Path) -> None:
    words = manifest(tmp_path)
    (tmp_path / "train.csv").write_text('path,labels\na.png,"dog, cat"\na.png,dog;cat\nc.png,Cat\nc.png,cat\n')
    Image.new("RGB", (8, 6), "red").save(tmp_path / "c.png")
    found = json.loads(here(tmp_path, *words, "format=json"))
    warnings = [each for each in found["splits"]["train"]["warnings"] if each["kind"] != FEW_IMAGES]
    kinds = [warning["kind"] for warning in warnings]
    assert kinds == ["several rows of one image", "labels that look like several", "one class in several spellings"]
    assert found["num_faults"] == 0
    said = here(tmp_path, *words)
    assert "train: warning: labels that look like several: 1" in said
    assert "1 labels such as 'dog, cat' look like several: dataset.label_separator=comma takes them apart" in said
    assert re.search("manifest: no faults, [0-9]+ warnings; 3 images in", said)
    train = ("train", *words[1:], "model=resnet8", "model.weights=none", "dataset.size=16", "epochs=1", "batch_size=2")
    said = here(tmp_path, *train, "gpus=[]", "name=m")
    for warning in warnings:
        assert f"warning: {warning['where']}: {warning['what']}" in said


def test_classes_of_few_images_are_told(tmp_path: Path) -> None:
    """One image is too few to learn from, none to be tested on; training names those without a score."""
    words = manifest(tmp_path)
    (tmp_path / "train.csv").write_text("path,labels\na.png,dog;cat\nc.png,dog\n")
    (tmp_path / "test.csv").write_text("path,labels\nb.png,dog\n")
    found = json.loads(here(tmp_path, *words, "format=json"))
    told = {
        name: [(each["kind"], each["what"]) for each in split["warnings"]] for name, split in found["splits"].items()
    }
    assert told == {
        "train": [(FEW_IMAGES, "class 'cat' has 1 image")], "test": [(FEW_IMAGES, "class 'cat' has 0 images")]
    }  # fmt: skip
    train = ("train", *words[1:], "model=resnet8", "model.weights=none", "dataset.size=16", "epochs=1", "batch_size=2")
    said = here(tmp_path, *train, "gpus=[]", "name=m")
    assert "1 of 2 classes without an image to test on, so no part of means over classes: cat" in said


def test_an_evaluation_needs_only_its_own_split(tmp_path: Path) -> None:
    words = manifest(tmp_path)
    train = ("train", *words[1:], "model=resnet8", "model.weights=none", "dataset.size=16", "epochs=1", "batch_size=1")
    here(tmp_path, *train, "gpus=[]", "name=m")
    (tmp_path / "train.csv").unlink()
    assert " of m.ckpt on test: " in here(tmp_path, "eval", "checkpoint=m", "gpus=[]")
    (tmp_path / "test.csv").write_text("path,labels\nb.png,horse\n")
    assert "unknown class 'horse'" in here(tmp_path, "eval", "checkpoint=m", "gpus=[]", "name=n", code=2)
