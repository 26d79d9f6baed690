"""Trained detectors put to use by the real command on real images: predict, export, lshfm.load."""

import csv
import json
import shutil
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from PIL import Image

import lshfm
from lshfm.config.compose import compose, conf_folder
from lshfm.config.schema import Train
from lshfm.config.words import rewrite
from lshfm.errors import InputError, RunFailed
from lshfm.files.write import write_checkpoint
from lshfm.models.detection.build import detector
from lshfm.runs import layout
from lshfm.shipping import writing
from tests.cli.conftest import here
from tests.documents import BLOCKS

NAMES = ("thing | <b>", "=dog")
IDS = [7, 18]
ON = ("gpus=[]", "workers=0")
FASTER, RETINA = "fasterrcnn_mobilenet_v2_fpn", "retinanet_mobilenet_v2_fpn"
DATA = ("dataset=coco_detection", "dataset.root=.", "dataset.train_split=train", "dataset.eval_split=test",
        "dataset.size=64")  # fmt: skip


def save_detector(folder: Path, name: str, arch: str, **more: Any) -> None:
    """checkpoints/NAME.ckpt: random weights whose class scores are far from each other."""
    design = {"norm": "batch", "width": 0.25, "fpn_channels": 16, **more}
    words = ["train", *DATA, f"model={arch}", *(f"model.{key}={value}" for key, value in design.items())]
    with conf_folder():
        settings = compose(Train, rewrite("train", [*words[1:], "model.weights=none"])).settings
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network: Any = detector(arch, 1 + len(NAMES), 64, **design)
        for layer in network.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.momentum = 1.0
        network.train().backbone(torch.randn(4, 3, 96, 96))  # else nothing of a picture would reach the last layers
        if arch == RETINA:
            for layer in network.head.classification_head.conv:
                torch.nn.init.kaiming_normal_(layer[0].weight)
        torch.nn.init.normal_(network.classifier.weight, std=3.0 if arch == FASTER else 0.3)
    record = {"command": "train", "category_ids": IDS, "starting_weights": "random weights"}
    write_checkpoint(
        folder / f"checkpoints/{name}.ckpt", layout.pack(settings, settings.model, network, NAMES, **record)
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, test_data: Path) -> Path:
    """A COCO-format set of three real images, `photos` with them and broken ones, and a detector."""
    folder = tmp_path_factory.mktemp("use")
    real = sorted((test_data / "VOCdevkit/VOC2007/JPEGImages").glob("*.jpg"))[:3]
    for place in ("test", "photos"):
        (folder / place).mkdir()
        for number, path in enumerate(real):
            shutil.copyfile(path, folder / place / f"{number:06d}.jpg")
    images = [{"id": 100 + number, "file_name": f"{number:06d}.jpg"} for number in range(3)]
    objects = [{"id": 1, "image_id": 100, "category_id": 18, "bbox": [10, 10, 90, 80], "iscrowd": 0}]
    categories = [{"id": id_, "name": name} for id_, name in zip(IDS, NAMES, strict=True)]
    (folder / "annotations").mkdir()
    text = json.dumps({"images": images, "annotations": objects, "categories": categories})
    (folder / "annotations/instances_test.json").write_text(text)
    (folder / "photos/cut.jpg").write_bytes(real[0].read_bytes()[:3000])
    Image.new("RGB", (30, 20)).save(folder / "photos/=z\x1b[31m.png")
    save_detector(folder, "net", FASTER)
    return folder


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))


def results(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text())
    return found


def test_objects_are_shown_or_written_in_every_format(folder: Path) -> None:
    """Boxes drawn, JSON lines of what passes, COCO's results of all, the devkit's files; names steer nothing."""
    few = here(folder, "predict", "net", "input=test/*.jpg", "top=2", *ON).splitlines()
    assert len(few) == 3
    assert few[0].startswith("test/000000.jpg: ")
    assert few[0].count("(") == 2
    words = ("predict", "net", "input=photos", "threshold=0.6", "pictures=true", "sheet=true", *ON)
    said = here(folder, *words, "name=all", "coco_ids=annotations/instances_test.json", code=1)
    assert "1 of 5 pictures cannot be read; all others are done" in said
    assert "coco_ids= has no id for 2 pictures" in said
    made = folder / "outputs/predict/all"
    entries = {Path(each["path"]).name: each for each in lines(made / "predictions.jsonl")}
    assert entries["cut.jpg"].keys() == {"path", "error"}
    first = entries["000000.jpg"]
    assert first.keys() == {"path", "size", "objects"}
    plain = pixels(folder / "photos/000000.jpg")
    assert first["size"] == [plain.shape[1], plain.shape[0]]
    scores = [each["score"] for each in first["objects"]]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) >= 0.6
    everything = [each for each in results(made / "detections.json") if each["image_id"] == 100]
    assert len(everything) > len(scores)
    assert {each["category_id"] for each in everything} <= set(IDS)
    assert (made / "sheet.jpg").is_file()
    names = sorted(path.name for path in (made / "pictures").iterdir())
    assert names == ["000000_000000.jpg", "000001_000001.jpg", "000002_000002.jpg", "000003_-z-31m.jpg"]
    change = np.abs(pixels(made / "pictures" / names[0]).astype(int) - plain).max(axis=2)
    left, top, right, _ = (round(edge) for edge in first["objects"][0]["box"])
    assert np.median(change[top + 1, left + 1 : right - 1]) > 20  # its upper edge

    here(folder, "predict", "net", "input=test", "format=csv", "devkit=true", "name=devkit", *ON)
    rows = list(csv.DictReader((folder / "outputs/predict/devkit/predictions.csv").read_text().splitlines()))
    assert {row["label"] for row in rows} <= {NAMES[0], f"'{NAMES[1]}"}
    files = {path.name: path.read_text() for path in (folder / "outputs/predict/devkit/devkit").iterdir()}
    assert set(files) == {"comp3_det_test_thing-b-.txt", "comp3_det_test_-dog.txt"}
    image, score, left, _, right, _ = next(text for text in files.values() if text).split()[:6]
    beside = next(each for each in results(folder / "outputs/predict/devkit/detections.json")
                  if f"{each['score']:.6f}" == score and each["image_id"] == image)  # fmt: skip
    assert float(left) == pytest.approx(beside["bbox"][0] + 1, abs=1e-5)  # the devkit counts from 1
    assert float(right) == pytest.approx(beside["bbox"][0] + beside["bbox"][2], abs=1e-4)


def test_the_python_of_the_page_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = (block for block in BLOCKS if block.page == "docs/detection.md" and block.info == "python")
    pictures = [folder / "photos" / name for name in ("000000.jpg", "000001.jpg")]
    code = block.text.replace("NAME", "net")
    for shown, picture in zip(("a.jpg", "b.png"), pictures, strict=True):
        code = code.replace(shown, f"{picture}")
    with chdir(folder):
        exec(compile(code, block.page, "exec"), {"__name__": "__main__"})
    said = capsys.readouterr().out.splitlines()
    assert any(line.startswith(f"{pictures[0]} ") for line in said)
    assert {line.count(" ") >= 6 for line in said} == {True}


def test_predict_finds_what_eval_measures(folder: Path) -> None:
    """The same detections under the data set's own ids of images and categories."""
    here(folder, "eval", "net", "eval_batch_size=2", "name=same", *DATA, *ON)
    words = ("input=test", "name=same", "coco_ids=annotations/instances_test.json")
    here(folder, "predict", "net", *words, *ON)
    ours, theirs = (results(folder / f"outputs/{command}/same/detections.json") for command in ("predict", "eval"))
    assert len(ours) == len(theirs) > 100
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine["image_id"], mine["category_id"]) == (other["image_id"], other["category_id"])
        assert mine["bbox"] == pytest.approx(other["bbox"], abs=1e-3)
    assert {each["image_id"] for each in ours} == {100, 101, 102}


def test_what_was_broken_off_goes_on(folder: Path) -> None:
    """Nothing lies under its name before all is done; the files are those of an undisturbed command."""
    words = ("predict", "net", "input=test", "batch_size=1", "format=csv", *ON)
    here(folder, *words, "name=whole")
    append, calls = writing.append_line, iter(range(9))

    def full(path: Path, line: str) -> None:
        if next(calls) == 1:
            raise RunFailed("the disk is full")
        append(path, line)

    with patch.object(writing, "append_line", full):
        here(folder, *words, "name=broken", code=1)
    whole, broken = (folder / "outputs/predict" / name for name in ("whole", "broken"))
    assert not (broken / "detections.json").exists()
    assert not (broken / "predictions.csv").exists()
    assert "1 of 3 pictures are done already" in here(folder, *words, "name=broken")
    for name in ("detections.json", "predictions.csv"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes()


def objects_of(model: Any, pictures: Sequence[Any]) -> list[list[Any]]:
    return [each.objects for each in model.predict(pictures, top=5)]


@pytest.mark.slow
def test_an_onnx_file_finds_the_same(folder: Path) -> None:
    """Proven on real images before it is kept; its description has classes and category ids."""
    pytest.importorskip("onnxruntime")
    said = here(folder, "export", "net", "format=onnx", "uint8=true", "images=test", "workers=0")
    assert "3 images: 100.00 % of" in said
    figures = json.loads((folder / "exports/net.onnx.json").read_text())
    assert figures["parity"]["largest_box_difference"] < 0.1
    assert "An object detector of 2 classes" in (folder / "exports/net.onnx.md").read_text()
    pictures = [folder / "test/000001.jpg", pixels(folder / "test/000002.jpg")]
    checkpoint, file = lshfm.load(folder / "checkpoints/net.ckpt", "cpu"), lshfm.load(folder / "exports/net.onnx")
    for mine, theirs in zip(objects_of(checkpoint, pictures), objects_of(file, pictures), strict=True):
        assert [each.label for each in mine] == [each.label for each in theirs]
        assert np.allclose([each.box for each in mine], [each.box for each in theirs], atol=0.1)
    assert file.category_ids == tuple(IDS)  # type: ignore[union-attr]
    (broken,) = checkpoint.predict([folder / "photos/cut.jpg"])
    assert broken.error
    with pytest.raises(InputError, match="uint8"):
        checkpoint.predict(np.zeros((4, 4)))


def test_a_check_says_how_boxes_are_taken(folder: Path) -> None:
    """Notes beside faults and warnings, which are counted; nothing is wrong with these."""
    said = here(folder, "check", *DATA, "dataset.train_split=test", "workers=0")
    assert "test: note: images without an object: 1" in said
    assert "2 of 3 images without an object, taken as background" in said
    assert "1 of 2 classes without an object, difficult ones and crowds aside: thing | <b>" in said
    assert "coco_detection: no faults, 1 warning; 3 images" in said


def test_damaged_category_ids_are_refused(folder: Path) -> None:
    content = torch.load(folder / "checkpoints/net.ckpt", weights_only=True)
    write_checkpoint(folder / "damaged.ckpt", content | {"category_ids": [7, 1.5]})
    with pytest.raises(InputError, match="damaged: category_ids missing or of the wrong kind"):
        lshfm.load(folder / "damaged.ckpt", "cpu")


@pytest.mark.slow
def test_training_keeps_the_category_ids(folder: Path) -> None:
    words = ("model.weights=none", "model.norm=batch", "model.width=0.25", "model.fpn_channels=16", "epochs=1")
    sizes = ("batch_size=1", "eval_batch_size=1", "dataset.skip_empty=false", "dataset.train_split=test")
    here(folder, "train", *DATA, *sizes, f"model={FASTER}", *words, "name=learnt", *ON)
    assert torch.load(folder / "checkpoints/learnt.ckpt", weights_only=True)["category_ids"] == IDS
    assert lshfm.load(folder / "checkpoints/learnt.ckpt", "cpu").category_ids == tuple(IDS)  # type: ignore[union-attr]


REFUSED = {
    "a detector has features of boxes, and none of a picture": ("predict", "net", "input=test", "features=true"),
    "no id with blanks has a place in the VOC devkit's files": ("predict", "net", "input=a b.jpg", "devkit=true"),
    "not in COCO's format": ("predict", "net", "input=test", "coco_ids=list.json"),
    "torch.export follows no program": ("export", "net", "format=pt2"),
    "timm has no detectors": ("export", "net", "format=timm"),
    "precision=fp16: detectors are exported in fp32": ("export", "net", "format=onnx", "precision=fp16"),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_detectors_do_not_give_is_refused(message: str, folder: Path) -> None:
    shutil.copyfile(folder / "test/000001.jpg", folder / "a b.jpg")
    (folder / "list.json").write_text("[]")
    on = ON if REFUSED[message][0] == "predict" else ("file=x.onnx",)
    before = sorted(folder.rglob("*"))
    assert message in here(folder, *REFUSED[message], *on, code=2)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.parametrize("per_class", ["null", 300])
def test_retinanet_as_onnx(per_class: int | str, folder: Path) -> None:
    pytest.importorskip("onnxruntime")
    save_detector(folder, f"retina_{per_class}", RETINA, **({} if per_class == "null" else {"per_class": per_class}))
    said = here(folder, "export", f"retina_{per_class}", "format=onnx", "images=test", "workers=0")
    assert "warning" not in said
    assert "% of" in said  # of what was found
