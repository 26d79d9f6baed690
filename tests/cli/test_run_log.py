"""log.txt and results.json of real runs say where they came from, and how they ended."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from lshfm.engine.state import State
from tests.cli.conftest import here

SMALL = (
    "dataset.num_train=32", "dataset.num_eval=16", "batch_size=16", "epochs=1", "gpus=[]", "workers=0",
    "dataset.cache=off",
)  # fmt: skip
TRAIN = ("train", *SMALL, "model=resnet8")


def log(folder: Path, run: str) -> list[str]:
    """What the log says, without times and levels."""
    text = (folder / "outputs" / run / "log.txt").read_text()
    return [re.sub(r"^\S+ \S+ (INFO|WARNING|ERROR) ", "", line) for line in text.splitlines()]


def results(folder: Path, run: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "outputs" / run / "results.json").read_text())
    return found


@pytest.mark.slow
def test_starting_weights_teacher_and_stage_1(tmp_path: Path) -> None:
    here(tmp_path, *TRAIN, "name=teacher")
    words = shlex.join(["lshfm", *TRAIN, "name=teacher"])
    assert log(tmp_path, "train/teacher")[0] == f"$ {words}"
    assert results(tmp_path, "train/teacher")["starting_weights"] == "random"

    here(tmp_path, *TRAIN, "name=second", "model.weights=checkpoints/teacher.ckpt", "model.projection=8")
    words = "from teacher.ckpt (lshfm); dropped classifier (12 classes); missing: projection, classifier (starts anew)"
    said = results(tmp_path, "train/second")["starting_weights"]
    assert re.fullmatch(rf"taken \d+ tensors {re.escape(words)}", said)
    assert log(tmp_path, "train/second")[3].endswith(f"; weights: {said}")

    here(tmp_path, "mimic", *SMALL, "teacher=teacher", "student=resnet8", "loss=l2", "name=student")
    for stage in "12":
        begins = log(tmp_path, f"mimic/student_stage{stage}")
        assert begins[0].startswith("$ lshfm mimic ")
        assert "teacher resnet8 from checkpoints/teacher.ckpt, feature width 64" in begins
        assert sum(" M parameters" in line for line in begins) == 1  # of this stage alone
        assert results(tmp_path, f"mimic/student_stage{stage}")["teacher"]["checkpoint"] == "checkpoints/teacher.ckpt"
    first, second = (results(tmp_path, f"mimic/student_stage{stage}") for stage in "12")
    assert (first["starting_weights"], first.get("stage1")) == ("random", None)
    assert second["starting_weights"] == "stage 1, checkpoints/student_stage1.ckpt"
    assert second["stage1"] == "checkpoints/student_stage1.ckpt"

    here(tmp_path, "mimic", *SMALL, "teacher=teacher", "student=resnet8", "loss=l2", "name=again", "stage=2")
    assert "starting from stage 1 checkpoints/student_stage1.ckpt" in log(tmp_path, "mimic/again_stage2")

    here(tmp_path, "eval", "checkpoint=checkpoints/second.ckpt", "workers=0", "dataset.cache=off", "gpus=[]")
    assert results(tmp_path, "eval/second")["starting_weights"] == said


def test_notes_of_the_plan_are_in_the_log(tmp_path: Path) -> None:
    here(tmp_path, *TRAIN, "name=teacher")
    words = ("mimic", *SMALL, "teacher=teacher", "student=resnet8", "loss=l2", "name=s", "student.projection=false")
    here(tmp_path, *words)
    assert log(tmp_path, "mimic/s_stage2")[3].startswith("student.projection=false: there is nothing to align")


def test_a_failed_run_says_why_and_one_that_goes_on_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here(tmp_path, *TRAIN, "name=a", "lr=1e30", code=1)
    assert "the loss is not finite: bce = " in log(tmp_path, "train/a")[-3]
    assert log(tmp_path, "train/a")[-1].startswith("Try a lower lr")

    update = State.update

    def stopping(state: State, lr: float) -> None:
        update(state, lr)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(State, "update", stopping)
        here(tmp_path, *TRAIN, "name=b", code=130)
    stopped = log(tmp_path, "train/b")
    assert stopped[-2:] == ["stopped; the same command continues from the start", "stopped by SIGINT"]
    here(tmp_path, *TRAIN, "name=b")
    went_on = log(tmp_path, "train/b")
    assert went_on[: len(stopped)] == stopped
    assert went_on[len(stopped)] == stopped[0]
    assert went_on[-1].startswith("finished: ")
