"""A second task that lives in the tests alone goes through the real command: train, mimic, stop, resume, evaluate."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lshfm.engine.state import State
from tests.arrays import arrays
from tests.cli.conftest import here
from tests.jobs import after_step, interrupt

CONF = Path(__file__).resolve().parents[1] / "samples/colour/conf"
COMMON = ("--config-dir", str(CONF), "dataset=colours", "gpus=[]", "workers=0", "dataset.cache=off", "log_every=1")
STUDENT = ("mimic", *COMMON, "teacher=teacher", "student=resnet8", "loss.hash_num=64")


def results(folder: Path, run: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "outputs" / run / "results.json").read_text())
    return found


@pytest.mark.slow
def test_a_task_of_ones_own_trains_mimics_resumes_and_evaluates(tmp_path: Path, monkeypatch: Any) -> None:
    train = ("train", *COMMON, "model=resnet8", "augment.brightness=0", "augment.contrast=0", "augment.saturation=0")
    said = here(tmp_path, *train, "name=teacher", "epochs=8")
    assert "train on train: 96 images of mean colour [" in said
    teacher = results(tmp_path, "train/teacher")
    assert teacher["metric"] == "R2"
    assert teacher["score"] > 20  # of chance's 0: it has learnt
    kept = arrays(tmp_path / "outputs/train/teacher/predictions.npz")
    assert kept["classes"].tolist() == ["red", "green", "blue"]
    assert kept["outputs"].shape == kept["targets"].shape == (48, 3)

    here(tmp_path, *train, "name=whole")
    with monkeypatch.context() as patch:
        patch.setattr(State, "update", after_step((2, 3), interrupt))
        here(tmp_path, *train, "name=parts", code=130)
    assert "continuing after epoch 2 of 4 epochs" in here(tmp_path, *train, "name=parts")
    whole, parts = (torch.load(tmp_path / f"checkpoints/{name}.ckpt")["model"] for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)

    said = here(tmp_path, *STUDENT, "name=student")
    assert "teacher resnet8: R2 " in said
    first, second = (results(tmp_path, f"mimic/student_stage{stage}") for stage in "12")
    assert first["metric"] == "hash agreement"
    assert second["report"]["mimicry"]["teacher_R2"] == teacher["score"]

    said = here(
        tmp_path, "eval", *COMMON[:2], "checkpoint=checkpoints/student_stage2.ckpt", "teacher=teacher", "workers=0"
    )
    assert f"R2 {second['score']:.2f} % on 48 images" in said
    evaluated = results(tmp_path, "eval/student_stage2_teacher-teacher")
    assert evaluated["score"] == second["score"]
    assert len((tmp_path / "outputs/eval/student_stage2_teacher-teacher/colours.txt").read_text().splitlines()) == 48


def test_what_no_task_has_is_refused(tmp_path: Path) -> None:
    said = here(tmp_path, "train", *COMMON, "model=resnet8", "dataset.metric=r3", code=2)
    assert "dataset.metric=r3: must be one of r2 (did you mean 'r2'?)" in said
    said = here(tmp_path, "train", *COMMON, "model=resnet8", "dataset.task=colours", code=2)
    assert (
        "dataset.task=colours: no such task (did you mean 'colour'?). There are: colour, detection, multilabel" in said
    )
