"""The label loss of an evaluation, and precision and recall at a threshold of one's own."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.arrays import arrays
from tests.cli.conftest import here

COMMON = ("dataset.num_train=32", "dataset.num_eval=24", "dataset.size=16", "gpus=[]", "workers=0")
TRAIN = ("train", *COMMON, "model=resnet8", "batch_size=16", "epochs=1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint that was trained with a loss that sums, and the same weights alone."""
    folder = tmp_path_factory.mktemp("trained")
    here(folder, *TRAIN, "loss=asl", "loss.reduction=sum", "loss.gamma_neg=2", "lr=0.001", "name=a")
    torch.save(torch.load(folder / "checkpoints/a.ckpt")["model"], folder / "bare.pth")
    return folder


def results(folder: Path, run: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "outputs" / run / "results.json").read_text())
    return found


def test_the_loss_is_that_of_training(folder: Path) -> None:
    said = here(folder, "eval", "checkpoint=a", "gpus=[]")
    trained, found = results(folder, "train/a"), results(folder, "eval/a")
    assert (found["label_loss"], found["label_loss_name"]) == (trained["label_loss"], "asl")
    assert f"; asl loss {trained['label_loss']:.4f}; written to" in said
    assert found["report"] == trained["report"]


def test_of_weights_alone_it_is_bce(folder: Path) -> None:
    said = here(folder, "eval", "checkpoint=bare.pth", "dataset=shapes", "model=resnet8", *COMMON)
    found = results(folder, "eval/bare_dataset-shapes")
    assert found["label_loss_name"] == "bce"
    assert f"; bce loss {found['label_loss']:.4f}; written to" in said
    assert "taken 56 tensors from bare.pth (plain)" in said


def test_a_loss_that_is_no_longer_there(folder: Path) -> None:
    content = torch.load(folder / "checkpoints/a.ckpt")
    torch.save(content | {"identity": content["identity"] | {"loss": "mine"}}, folder / "checkpoints/own.ckpt")
    said = here(folder, "eval", "checkpoint=own", "gpus=[]")
    assert "warning: the loss of its training is not there, so that of bce is taken: label_loss=mine: no such" in said
    assert results(folder, "eval/own")["label_loss_name"] == "bce"


def test_a_threshold_of_ones_own(folder: Path) -> None:
    said = here(folder, "eval", "checkpoint=a", "gpus=[]", "threshold=0.2")
    report = results(folder, "eval/a_threshold-0.2")["report"]
    assert report["threshold"] == 0.2
    kept = arrays(folder / "outputs/eval/a_threshold-0.2/predictions.npz")
    predicted, targets = 1 / (1 + np.exp(-kept["logits"].astype(np.float64))) >= 0.2, kept["targets"]
    rows = report["threshold_0.2_by_class"]
    for column, row in enumerate(rows):
        hits = (predicted & (targets > 0))[:, column].sum()
        assert row["support"] == (targets[:, column] > 0).sum()
        if row["support"]:
            assert row["recall"] == pytest.approx(100 * hits / row["support"])
            claims = (predicted & (targets != 0))[:, column].sum()
            assert row["precision"] == pytest.approx(100 * hits / max(claims, 1))
    assert "a class at p >= 0.2" in said
    assert "threshold=1" in here(folder, "eval", "checkpoint=a", "gpus=[]", "threshold=1", code=2)
