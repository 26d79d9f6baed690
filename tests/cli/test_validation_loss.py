"""The label loss of what is evaluated: in the lines, the table and the results of real runs."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lshfm.losses.classification import ASL, BCE
from tests.arrays import arrays
from tests.cli.conftest import here

COMMON = (
    "dataset.num_train=32", "dataset.num_eval=24", "batch_size=16", "epochs=2", "gpus=[]", "workers=0",
    "dataset.cache=off",
)  # fmt: skip
TRAIN = ("train", *COMMON, "model=resnet8")


def results(folder: Path, run: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "outputs" / run / "results.json").read_text())
    return found


def of_epochs(folder: Path, run: str) -> list[dict[str, Any]]:
    lines = map(json.loads, (folder / "outputs" / run / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["kind"] == "epoch"]


def of_predictions(folder: Path, run: str, loss: torch.nn.Module) -> float:
    kept = arrays(folder / "outputs" / run / "predictions.npz")
    return float(loss(torch.from_numpy(kept["logits"]), torch.from_numpy(kept["targets"])))


def test_it_is_that_of_the_predictions_with_any_batch_size(tmp_path: Path) -> None:
    here(tmp_path, *TRAIN, "name=a", "eval_batch_size=24")
    here(tmp_path, *TRAIN, "name=b", "eval_batch_size=7")
    found = results(tmp_path, "train/a")
    assert found["label_loss"] == pytest.approx(of_predictions(tmp_path, "train/a", BCE()), rel=1e-6)
    assert results(tmp_path, "train/b")["label_loss"] == pytest.approx(found["label_loss"], rel=1e-5)
    epochs = of_epochs(tmp_path, "train/a")
    assert [line["validation_loss"] for line in epochs] == [entry["validation_loss"] for entry in found["history"]]
    assert epochs[-1]["validation_loss"] == found["label_loss"]
    with (tmp_path / "outputs/train/a/metrics.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [float(row["validation_loss"]) for row in table] == [line["validation_loss"] for line in epochs]
    rows = found["report"]["threshold_0.5_by_class"]
    targets = arrays(tmp_path / "outputs/train/a/predictions.npz")["targets"]
    assert [row["support"] for row in rows] == (targets > 0).sum(axis=0).tolist()


def test_of_a_sum_it_is_the_mean_over_images_and_of_held_out_ones_theirs(tmp_path: Path) -> None:
    words = ("loss=asl", "loss.reduction=sum", "lr=0.001", "dataset.holdout=0.25", "select=best")
    here(tmp_path, *TRAIN, "batch_size=8", *words, "name=a")
    found = results(tmp_path, "train/a")
    total = of_predictions(tmp_path, "train/a", ASL(reduction="sum"))
    assert found["label_loss"] == pytest.approx(total / 24, rel=1e-6)
    assert found["label_loss"] not in [line["validation_loss"] for line in of_epochs(tmp_path, "train/a")]
    assert "label_loss" in torch.load(tmp_path / "checkpoints/a.ckpt")


@pytest.mark.slow
def test_a_stage_1_has_none_and_stage_2_that_of_its_labels(tmp_path: Path) -> None:
    here(tmp_path, *TRAIN, "name=teacher")
    here(tmp_path, "mimic", *COMMON, "teacher=teacher", "student=resnet8", "loss=l2", "name=s")
    first, second = (results(tmp_path, f"mimic/s_stage{stage}") for stage in "12")
    assert "label_loss" not in first
    assert not any("validation_loss" in line for line in of_epochs(tmp_path, "mimic/s_stage1"))
    assert second["label_loss"] == pytest.approx(of_predictions(tmp_path, "mimic/s_stage2", BCE()), rel=1e-6)
    assert of_epochs(tmp_path, "mimic/s_stage2")[-1]["validation_loss"] == second["label_loss"]
