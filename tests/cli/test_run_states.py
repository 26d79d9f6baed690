"""last.ckpt, the state of a run, given where a checkpoint is asked for: its network is used, and what it is is said."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.arrays import arrays
from tests.cli.conftest import here
from tests.cli.test_older_versions import KEPT, SAMPLES

SMALL = (
    "dataset.num_train=32", "dataset.num_eval=16", "dataset.size=16", "batch_size=16", "epochs=1", "workers=0",
    "gpus=[]",
)  # fmt: skip
TRAIN = ("train", "model=resnet8", *SMALL, "ema=0.5")
LAST = "outputs/train/a/last.ckpt"
IS = f"{LAST}, the state of a run after epoch 1; outputs/train/a/best.ckpt holds the network of its best epoch and"


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that lacks its finished checkpoint, which lies elsewhere for comparison."""
    folder = tmp_path_factory.mktemp("unfinished")
    here(folder, *TRAIN, "name=a")
    (folder / "checkpoints/a.ckpt").rename(folder / "finished.ckpt")
    (folder / "outputs/train/a/results.json").rename(folder / "results.json")
    return folder


def results(folder: Path, name: str) -> Any:
    return json.loads((folder / "outputs/eval" / name / "results.json").read_text())


def test_an_unfinished_run_is_evaluated(unfinished: Path) -> None:
    """With its moving average, as after its epochs; data set and network are known."""
    said = here(unfinished, "eval", f"checkpoint={LAST}", "gpus=[]")
    assert f"taken: the network in {IS} checkpoints/a.ckpt will hold that of the finished run\n" in said
    trained = json.loads((unfinished / "results.json").read_text())
    assert results(unfinished, "a_last")["report"] == trained["report"]


def test_its_weights_start_another_run(unfinished: Path) -> None:
    said = here(unfinished, *TRAIN, "name=b", f"model.weights={LAST}", "lr=1e-30")
    assert "weights: taken 56 tensors from last.ckpt (the state of a run after epoch 1; " in said
    assert "will hold that of the finished run; its moving average)\n" in said
    before, after = (torch.load(unfinished / name)["model"] for name in ("finished.ckpt", "checkpoints/b.ckpt"))
    learnt = [name for name in before if name.endswith(("weight", "bias"))]
    assert all(torch.allclose(before[name], after[name]) for name in learnt)


@pytest.mark.slow
def test_it_teaches(unfinished: Path) -> None:
    words = ("mimic", f"teacher={LAST}", "student=resnet8", *SMALL, "stage=1", "loss=l2", "name=c")
    said = here(unfinished, *words)
    assert f"taken: the network in {IS}" in said
    state, finished = "outputs/mimic/c_stage1/last.ckpt", "checkpoints/c_stage1.ckpt"
    (unfinished / "outputs/mimic/c_stage1/results.json").unlink()
    second = ("mimic", f"teacher={LAST}", "student=resnet8", *SMALL, "stage=2", "loss=l2")
    said = here(unfinished, *second, "name=d", f"student.init={state}")
    assert f"taken: the student in {state}, the state of a run after epoch 1; " in said
    here(unfinished, *second, "name=e", f"student.init={finished}")
    d, e = (arrays(unfinished / f"outputs/mimic/{name}_stage2/predictions.npz")["logits"] for name in "de")
    assert np.array_equal(d, e)


def test_one_of_an_older_version_asks_for_what_it_does_not_say(tmp_path: Path) -> None:
    shutil.copytree(SAMPLES / "v2", tmp_path, dirs_exist_ok=True)
    words = ("eval", *KEPT, "checkpoint=outputs/train/unfinished/last.ckpt")
    said = here(tmp_path, *words, code=2)
    assert "is the state of a run after epoch 1; outputs/train/unfinished/best.ckpt holds the network of" in said
    assert "add dataset=... and model=... to evaluate it" in said
    data = ("dataset=shapes", "dataset.num_train=64", "dataset.num_eval=32")
    here(tmp_path, *words, *data, "model=narrow", "model.width=6")
    assert results(tmp_path, "unfinished_last_dataset-shapes")["report"]["images"] == 32
