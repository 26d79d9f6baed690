"""Runs that go on to another number of epochs: to which numbers, from which run, and where they cannot."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lshfm.commands.mimic import mimic_here
from lshfm.config.compose import Job
from lshfm.config.schema import Train
from lshfm.config.sweep import sweeps_over_epochs
from lshfm.engine.state import State
from lshfm.errors import InputError
from lshfm.runs.folder import differs_in_length_alone
from tests.cli.test_runs import assert_same_run
from tests.jobs import CPU, jobs, save_trained
from tests.runs.test_training import after_step, end_of, kill, place, train, train_job

STEPWISE = ("schedule.cosine_epochs=0", "schedule.steps=[1.5]")
HELD = ("dataset.holdout=0.25", "clip_grad=0.5", "balanced=true", "freeze_epochs=1", "ema=0.5")
pytestmark = pytest.mark.usefixtures("hydra")


def rates(name: str) -> list[float]:
    """The learning rate of every line on steps."""
    lines = map(json.loads, Path(f"outputs/train/{name}/metrics.jsonl").read_text().splitlines())
    return [line["lr"] for line in lines if line["kind"] == "step"]


def epochs_of(checkpoint: str) -> Any:
    return torch.load(f"checkpoints/{checkpoint}.ckpt", weights_only=True)["identity"]["epochs"]


def refused(job: Job[Train]) -> str:
    with pytest.raises(InputError) as caught:
        train(job)
    return str(caught.value)


@pytest.mark.slow
def test_a_finished_run_goes_on_exactly_where_its_schedule_allows_it(said: list[str]) -> None:
    """The finished checkpoint stays until the new one is there, and a kill on the way costs nothing."""
    train(train_job("name=planned", *STEPWISE, *HELD))
    train(train_job("name=a", "epochs=2", *STEPWISE, *HELD))
    before, job = Path("checkpoints/a.ckpt").read_bytes(), train_job("name=a", *STEPWISE, *HELD)
    assert end_of(job, State, "update", after_step((2, 2), kill)) is not None
    assert Path("checkpoints/a.ckpt").read_bytes() == before
    assert not Path("outputs/train/a/results.json").exists()
    words = "epochs=3 instead of 2, after epoch 2: the learning rate is that of a run planned for 3 epochs, and so "
    assert [line for line in said if line.startswith("epochs=")] == [f"{words}will be the numbers"]
    train(job)
    assert_same_run(Path(), "a", "planned")
    assert epochs_of("a") == 3
    results = json.loads(Path("outputs/train/a/results.json").read_text())  # the kill has not made it forget
    assert results["planned_before"] == [{"epochs": 2, "until_epoch": 2, "until_step": 0}]


def test_a_cosine_is_that_of_the_new_length_from_there_on(said: list[str]) -> None:
    train(train_job("name=planned"))
    train(train_job("name=a", "epochs=1"))
    first = rates("a")
    train(train_job("name=a"))
    assert rates("a") == first + rates("planned")[2:]  # two lines an epoch
    assert first != rates("planned")[:2]
    results = (json.loads(Path(f"outputs/train/{name}/results.json").read_text()) for name in ("a", "planned"))
    plans = [result.get("planned_before") for result in results]
    assert plans == [[{"epochs": 1, "until_epoch": 1, "until_step": 0}], None]
    words = "epochs=3 instead of 1, after epoch 1: from epoch 2 on the learning rate (cosine) is that of a run planned"
    assert [line.startswith(words) for line in said if line.startswith("epochs=")] == [True]

    train(train_job("name=a"))
    assert said[-1].startswith("outputs/train/a is finished")
    message = refused(train_job("name=a", "epochs=2"))
    assert "outputs/train/a holds this run with epochs=3 and is after epoch 3 already, past epochs=2" in message
    assert "other settings" in refused(train_job("name=a", "epochs=4", "lr=0.3"))

    Path("outputs/train/a/last.ckpt").unlink()
    message = refused(train_job("name=a", "epochs=4"))
    assert "holds this run with epochs=3, but no last.ckpt to go on from to epochs=4: overwrite=true" in message
    train(train_job("name=a", "epochs=1", "overwrite=true"))
    assert (epochs_of("a"), rates("a")) == (1, first)


def test_an_unfinished_run_goes_on_likewise_and_may_end_sooner(said: list[str]) -> None:
    train(train_job("name=planned", *STEPWISE))
    assert end_of(train_job("name=a", "epochs=9", *STEPWISE), State, "update", after_step((2, 1), kill)) is not None
    assert place("a") == (2, 0)
    train(train_job("name=a", *STEPWISE))
    assert_same_run(Path(), "a", "planned")
    assert end_of(train_job("name=b", "epochs=9", *STEPWISE), State, "update", after_step((2, 1), kill)) is not None
    train(train_job("name=b", "epochs=2", *STEPWISE))  # nothing is left to train
    assert (place("b"), epochs_of("b")) == ((2, 0), 2)


@pytest.mark.slow
def test_a_run_of_another_name_is_taken_over_and_stays(said: list[str]) -> None:
    train(train_job("name=planned", *STEPWISE))
    train(train_job("epochs=2", *STEPWISE))
    (two,) = (path for path in Path("outputs/train").iterdir() if path.name != "planned")
    kept = {path: path.read_bytes() for path in two.iterdir() if path.is_file()}
    swept = replace(train_job(*STEPWISE), typed=("lshfm", "train", "-m", "epochs=2,3"))
    for job, begins_anew in ((swept, True), (train_job("overwrite=true", *STEPWISE), True), (train_job(*STEPWISE), 0)):
        said.clear()
        train(job)
        (three,) = (
            path for path in Path("outputs/train").iterdir() if path not in (two, Path("outputs/train/planned"))
        )
        assert any(line.startswith(f"taken over from {two}, which stays as it is") for line in said) is not begins_anew
        assert_same_run(Path(), three.name, "planned")
        if begins_anew:
            for path in three.iterdir():
                path.unlink()
            Path(f"checkpoints/{three.name}.ckpt").unlink()
    assert {path: path.read_bytes() for path in two.iterdir() if path.is_file()} == kept
    assert (epochs_of(two.name), epochs_of(three.name)) == (2, 3)


def test_what_cannot_be_read_is_passed_over(said: list[str]) -> None:
    """The checkpoint before the last is taken where that is damaged, and a run without any begins anew."""
    train(train_job("name=planned", *STEPWISE))
    train(train_job("epochs=2", "keep_last=2", *STEPWISE))
    (two,) = (path for path in Path("outputs/train").iterdir() if path.name != "planned")
    (two / "last.ckpt").write_bytes(b"damaged")
    for name in ("before.npz", "teacher_test.npz"):  # of a mimicking run: they go along
        (two / name).write_bytes(b"kept")
    train(train_job(*STEPWISE))
    (three,) = (path for path in Path("outputs/train").iterdir() if path.name not in ("planned", two.name))
    assert_same_run(Path(), three.name, "planned")
    assert any(line.startswith("epochs=3 instead of 2, after epoch 1: ") for line in said)
    assert {(three / name).read_bytes() for name in ("before.npz", "teacher_test.npz")} == {b"kept"}
    for path in two.glob("last*.ckpt"):
        path.unlink()
    shutil.rmtree(three)
    Path(f"checkpoints/{three.name}.ckpt").unlink()
    said.clear()
    train(train_job(*STEPWISE))
    assert any(f"{two} is this run with other epochs, but has no last.ckpt to go on from" in line for line in said)
    assert_same_run(Path(), three.name, "planned")


def test_jobs_of_a_sweep_over_epochs_do_not_share_a_name() -> None:
    train(train_job("name=a", "epochs=1"))
    job = replace(train_job("name=a", "epochs=2"), typed=("lshfm", "train", "-m", "epochs=1,2", "name=a"))
    assert "in a sweep over epochs each job is a run of its own, which one name= for all does not allow" in refused(job)


def test_an_early_stop_still_holds_for_more_epochs(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("early_stop=1", "dataset.holdout=0.25", "lr=1e-9")
    train(train_job("name=a", "epochs=9", *words))
    assert place("a")[0] < 9
    assert sum(line.startswith("early_stop=1: no better score since epoch") for line in said) == 1
    done = place("a")
    train(train_job("name=a", "epochs=20", *words))
    assert (place("a"), epochs_of("a")) == (done, 20)


@pytest.mark.slow
def test_a_stage_1_that_a_stage_2_started_from_is_not_trained_on_unasked() -> None:
    save_trained("teacher")
    words = ("teacher=teacher", "student=resnet8", "loss=l2", "batch_size=8", "name=a")
    mimic_here(jobs(*words, "epochs=1"), CPU)
    kept = Path("checkpoints/a_stage1.ckpt").read_bytes()
    with pytest.raises(
        InputError, match=r"a_stage2 started from stage 1 as it is.* as it was, stage2\.epochs=2 goes on"
    ):
        mimic_here(jobs(*words, "epochs=2"), CPU)
    assert Path("checkpoints/a_stage1.ckpt").read_bytes() == kept
    mimic_here(jobs(*words, "epochs=1", "stage2.epochs=2"), CPU)
    assert (epochs_of("a_stage1"), epochs_of("a_stage2")) == (1, 2)
    assert Path("checkpoints/a_stage1.ckpt").read_bytes() == kept
    mimic_here(jobs(*words, "epochs=3", "overwrite=true"), CPU)
    assert (epochs_of("a_stage1"), epochs_of("a_stage2")) == (3, 3)


@pytest.mark.parametrize(
    ("there", "here", "alone"),
    [
        ({"epochs": 2}, {"epochs": 3}, True),
        ({"epochs": 2}, {"epochs": 2}, False),
        ({"epochs": 2, "lr": 1}, {"epochs": 3, "lr": 2}, False),
        ({"epochs": 2, "schedule.cosine_epochs": 2}, {"epochs": 3, "schedule.cosine_epochs": 3.0}, True),
        ({"epochs": 2, "schedule.cosine_epochs": 5}, {"epochs": 3, "schedule.cosine_epochs": 5}, True),
        ({"epochs": 2, "schedule.cosine_epochs": 5}, {"epochs": 3, "schedule.cosine_epochs": 3}, False),
        ({"epochs": 2, "schedule.cosine_epochs": 2}, {"epochs": 3, "schedule.cosine_epochs": 0}, False),
        ({"epochs": 2}, {"epochs": 3, "head_lr": 1.0, "schedule.policy": "cosine", "clip_grad": None}, True),  # older
    ],
)
def test_what_differs_in_length_alone(there: dict[str, Any], here: dict[str, Any], alone: bool) -> None:
    assert differs_in_length_alone(there, here) is alone


@pytest.mark.parametrize(
    ("typed", "sweeps"),
    [
        (["-m", "epochs=1,2"], True),
        (["--multirun", "+epochs=range(1,3)"], True),
        (["-m", "stage2.epochs=1,2"], True),
        (["-m", "epochs=20", "seed=0,1"], False),
        (["epochs=20"], False),
    ],
)
def test_a_sweep_over_epochs(typed: Sequence[str], sweeps: bool) -> None:
    assert sweeps_over_epochs(["lshfm", "train", *typed]) is sweeps
