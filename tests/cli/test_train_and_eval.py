"""train and eval end to end, on real images."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from lshfm.datasets.voc import VOC
from tests.cli.conftest import TINY, Refuse, Run


def results(path: Path) -> Any:
    return json.loads((path / "results.json").read_text())


@pytest.mark.slow
def test_voc2007_from_training_to_devkit_files(run: Run, tmp_path: Path, test_data: Path) -> None:
    weights = test_data / "weights" / "mobilenet_v2-imagenet.pth"
    voc = [f"dataset.root={test_data}", "dataset.size=64"]
    settings = ["model=mobilenet_v2", f"model.weights={weights}", "epochs=1", "eval_batch_size=100"]
    out = run("train", "dataset=voc2007", *voc, *settings).stdout
    assert "taken 312 tensors from mobilenet_v2-imagenet.pth" in out
    assert "dropped classifier (1000 classes)" in out
    name = "voc2007_mobilenet_v2_bce_s0_epochs-1_weights-mobilenet_v2-imagenet_size-64"
    (folder,) = (tmp_path / "outputs" / "train").iterdir()
    assert set(name.split("_")) == set(folder.name.split("_"))
    for file in ("config.yaml", "log.txt", "metrics.jsonl", "last.ckpt", "best.ckpt"):
        assert (folder / file).stat().st_size
    trained = results(folder)
    checkpoint = tmp_path / "checkpoints" / f"{folder.name}.ckpt"

    out = run("eval", f"checkpoint={checkpoint}", "name=e").stdout
    for word in ("voc2010", "voc2007 (11 points)", "uninterpolated", "CF1", "OF1", "70 difficult labels ignored"):
        assert word in out
    evaluated = results(tmp_path / "outputs" / "eval" / "e")
    assert evaluated["report"] == trained["report"]
    assert evaluated["score"] == trained["score"] > trained["report"]["positive_rate"] * 100

    with np.load(tmp_path / "outputs" / "eval" / "e" / "predictions.npz") as file:
        ids, logits, targets = file["ids"], file["logits"], file["targets"]
    split = VOC(test_data).split("test")
    assert list(ids) == list(split.ids)
    assert np.array_equal(targets, split.labels)
    for column, label in enumerate(split.classes):
        counted = targets[:, column] != 0
        oracle = average_precision_score(targets[counted, column] > 0, logits[counted, column])
        assert evaluated["report"]["ap"][label]["uninterpolated"] == pytest.approx(100 * oracle, abs=1e-6)
    lines = (tmp_path / "outputs/eval/e/devkit/comp2_cls_test_dog.txt").read_text().splitlines()
    assert len(lines) == 600
    image, score = lines[0].split()
    assert (image, np.float32(score)) == (ids[0], logits[0, list(split.classes).index("dog")])


@pytest.mark.slow
def test_a_coco_set_with_the_images_that_show_nothing(run: Run, tmp_path: Path, test_data: Path) -> None:
    coco = ["dataset=coco2014", f"dataset.root={test_data / 'coco2014'}", "dataset.size=32", "model=resnet8"]
    common = [*coco, "epochs=1", "batch_size=20", "lr=0.01"]
    for keep, images in (("annotated", 80), ("all", 81)):
        assert (
            f"train2014: {images} of {images} images, 80 classes"
            in run("train", *common, f"dataset.keep={keep}", f"name={keep}").stdout
        )
        report = results(tmp_path / "outputs" / "train" / keep)["report"]
        assert report["metric"] == "uninterpolated"
        assert report["images"] == images
        assert report["classes_without_positives"]
        assert report["classes_averaged"] + len(report["classes_without_positives"]) == 80


def write_manifest(path: Path, root: Path, split: str, limit: int) -> None:
    voc = VOC(root).split(split)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "labels", "difficult", "id"])
        for i in range(limit):
            shown, hard = ([voc.classes[c] for c in np.flatnonzero(voc.labels[i] == sign)] for sign in (1, 0))
            writer.writerow([voc.images.where(i), ";".join(shown), ";".join(hard), voc.ids[i]])


def test_a_users_own_images_by_manifest(run: Run, tmp_path: Path, test_data: Path) -> None:
    root = tmp_path / "my pictures (2007), all"
    root.mkdir()
    write_manifest(root / "train.csv", test_data, "trainval", 60)
    write_manifest(root / "test.csv", test_data, "test", 40)
    (root / "classes.txt").write_text("\n".join(VOC(test_data).split("test").classes))
    words = [f"dataset.root={root}", "dataset.unlabelled=negative", "dataset.size=32"]
    held = ("dataset.holdout=0.2", "dataset.holdout_by=chance")
    run("train", "dataset=manifest", *words, "model=resnet8", "epochs=1", "lr=0.01", "name=m", *held)
    trained = results(tmp_path / "outputs/train/m")
    assert trained["best_chosen_on"] == "12 images held out of train"
    assert trained["report"]["images"] == 40
    relative = f"dataset.root={root.name}"
    run("eval", "checkpoint=checkpoints/m.ckpt", relative, "name=m")
    assert results(tmp_path / "outputs/eval/m")["report"] == trained["report"]


@pytest.mark.slow
def test_pixels_decoded_every_epoch_give_the_same_numbers(run: Run, tmp_path: Path, test_data: Path) -> None:
    common = ["dataset=coco2014", f"dataset.root={test_data / 'coco2014'}", "dataset.size=32", "model=resnet8"]
    common += ["epochs=1", "batch_size=20", "lr=0.01"]
    for cache in ("on", "off"):
        run("train", *common, f"dataset.cache={cache}", f"name={cache}")
    stored, decoded = (torch.load(tmp_path / f"checkpoints/{c}.ckpt")["model"] for c in ("on", "off"))
    assert all(torch.equal(stored[name], decoded[name]) for name in stored)


@pytest.mark.slow
def test_broken_images_are_named_or_left_out(run: Run, tmp_path: Path, test_data: Path) -> None:
    source = (VOC(test_data).split("test").images.where(i) for i in range(40))
    lines = ["path,labels"]
    for number, path in enumerate(source):
        content = Path(path).read_bytes()
        (tmp_path / f"{number}.jpg").write_bytes(content[: len(content) // 3] if number in (3, 7) else content)
        lines.append(f"{number}.jpg,{'even' if number % 2 else 'odd'}")
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").write_text("\n".join(lines))
    words = ["dataset=manifest", "dataset.root=.", "dataset.size=32", "model=resnet8", "epochs=1", "lr=0.01"]
    message = run("train", *words, code=2).stderr
    assert "3.jpg" in message
    assert "7.jpg" in message
    assert "dataset.skip_broken=true" in message
    assert not (tmp_path / "outputs").exists()
    out = run("train", *words, "dataset.skip_broken=true", "name=s").stdout
    assert "2 broken images are left out" in out
    assert "38 of 40 images" in out
    assert results(tmp_path / "outputs/train/s")["report"]["images"] == 38


@pytest.mark.slow
def test_a_checkpoint_of_the_published_code_is_evaluated(run: Run, tmp_path: Path) -> None:
    run("train", *TINY, "name=ours")
    weights = torch.load(tmp_path / "checkpoints/ours.ckpt")["model"]
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in weights.items()}}, tmp_path / "plain.pth")
    tiny = ["dataset=shapes", "model=resnet8", "dataset.num_eval=64", "dataset.size=16"]
    run("eval", "checkpoint=plain.pth", *tiny, "name=plain")
    ours, plain = results(tmp_path / "outputs/train/ours"), results(tmp_path / "outputs/eval/plain")
    assert plain["score"] == pytest.approx(ours["score"], abs=1e-4)
    assert "names neither data set nor network" in run("eval", "checkpoint=plain.pth", code=2).stderr
    assert "resnet14" in run("eval", "checkpoint=plain.pth", "dataset=shapes", "model=resnet14", code=2).stderr


def test_a_checkpoint_on_other_data(has_run: None, refuse: Refuse, test_data: Path) -> None:
    message = refuse("eval", "checkpoint=checkpoints/a.ckpt", "dataset=voc2007", f"dataset.root={test_data}")
    assert "12 classes" in message
    assert "20" in message
    assert "red circle" in message
    assert "aeroplane" in message


NETWORK = """
import torch
from torch import nn

class Tiny(nn.Module):
    def __init__(self, num_classes, width=8):
        super().__init__()
        self.num_features = width
        self.body = nn.Conv2d(3, width, 3)
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, images):
        feature = self.body(images).amax((2, 3))
        return feature, self.classifier(feature)

class NoFeature(Tiny):
    def forward(self, images):
        return super().forward(images)[1]
"""


@pytest.mark.slow
def test_a_users_own_network(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(NETWORK)
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf/model/mine.yaml").write_text("_target_: mine.Tiny\nwidth: 8\n")
    (tmp_path / "conf/model/poor.yaml").write_text("_target_: mine.NoFeature\n")
    tiny = ["dataset.num_train=64", "dataset.num_eval=32", "epochs=1", "--config-dir", "conf"]
    run("train", "model=mine", "model.width=4", *tiny, PYTHONPATH=".")
    (name,) = (path.stem for path in (tmp_path / "checkpoints").iterdir())
    assert name.startswith("shapes_mine_bce_s0_")
    assert "width-4" in name
    run("eval", f"checkpoint=checkpoints/{name}.ckpt", "--config-dir", "conf", PYTHONPATH=".")
    assert "model=mine: no such model" in run("eval", f"checkpoint=checkpoints/{name}.ckpt", code=2).stderr
    assert "PYTHONPATH" in run("train", "model=mine", *tiny, code=2).stderr
    assert "(feature, logits)" in run("train", "model=poor", *tiny, code=2, PYTHONPATH=".").stderr
    assert "does not take" in run("train", "model=mine", "+model.depth=3", *tiny, code=2, PYTHONPATH=".").stderr
