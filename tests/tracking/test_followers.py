"""Trackers follow the lines of a run, and none of them can end it."""

import csv
import json
import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from lshfm.engine.lines import EpochLine, Line, StepLine, Waiting
from lshfm.errors import InputError
from lshfm.tracking import followers
from lshfm.tracking.followers import Followers, followed
from lshfm.tracking.tracker import Tracked, final_numbers

STEPS = 4
SETTINGS = {"lr": 0.1, "freeze": ["bn_stats"], "seed": 0}
LINES = [
    StepLine(1, 2, 0.1, {"bce": 0.5}, 100.0, Waiting(0.25, 1)),
    StepLine(1, 4, 0.1, {"bce": 0.4}),
    EpochLine(1, "voc2010 mAP", 40.0, {"hash agreement": 80.0, "angle": None}, 0.3),
    StepLine(2, 4, 0.05, {"bce": 0.3}),
    EpochLine(2, "voc2010 mAP", 50.0),
]
REPORT = {"mAP": 50.0, "mAPs": {"voc2007": 49.0}, "ap": {"cat": {"voc2010": 1.0}}, "metric": "voc2010", "empty": None}


class Kept:
    """Where lines go first."""

    def __init__(self) -> None:
        self.lines: list[Line] = []

    def write(self, line: Line) -> None:
        self.lines.append(line)

    def forget_after(self, epochs_done: int, steps_done: int) -> None:
        pass


def follow(folder: Path, *names: str, lines: list[Line], since: int = 0, finish: bool = True) -> Kept:
    kept = Kept()
    run = followed(kept, names, folder, SETTINGS, STEPS)
    if since:
        run.forget_after(since, 0)
    for line in lines:
        run.write(line)
    if finish:
        run.finish("voc2010 mAP", 50.0, REPORT)
    run.close()
    return kept


def test_a_run_that_goes_on_leaves_the_same_file_as_one_without_a_stop(tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    follow(whole, "csv", lines=LINES)
    later = StepLine(2, 2, 0.05, {"bce": 9.9})  # is done again
    follow(stopped, "csv", lines=[*LINES[:3], later], finish=False)
    follow(stopped, "csv", lines=LINES[3:], since=1)
    assert (stopped / "tracked.csv").read_text() == (whole / "tracked.csv").read_text()
    rows = list(csv.reader((whole / "tracked.csv").read_text().splitlines()))
    assert rows[:3] == [["step", "epoch", "name", "value"], ["0", "0.0", "settings/lr", "0.1"],
                        ["0", "0.0", "settings/freeze", "['bn_stats']"]]  # fmt: skip
    assert ["2", "0.5", "train/waiting_seconds", "0.25"] in rows
    assert ["4", "1.0", "eval/hash_agreement", "80.0"] in rows
    assert rows[-1] == ["8", "2.0", "final/mAPs.voc2007", "49.0"]


def test_final_numbers_leave_out_classes_and_words() -> None:
    assert final_numbers("voc2010 mAP", 50.0, REPORT) == {
        "final/score": 50.0, "final/voc2010_mAP": 50.0, "final/mAP": 50.0, "final/mAPs.voc2007": 49.0,
    }  # fmt: skip


class Failing:
    """A tracker that fails from its second number on."""

    def __init__(self, _tracked: Tracked) -> None:
        self.calls = 0

    def write(self, step: int, epoch: float, values: Mapping[str, float]) -> None:
        self.calls += 1
        if self.calls > 1:
            raise OSError("[Errno 28] No space left on device\nand more")

    def finish(self, final: Mapping[str, float]) -> None:
        raise AssertionError("it was left out")

    def close(self, *, finished: bool) -> None:
        raise AssertionError("it was left out")


def never(_tracked: Tracked) -> Any:
    raise RuntimeError("no network")


def test_a_tracker_that_fails_warns_once_and_the_others_go_on(tmp_path: Path, caplog: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("lshfm.console.logger.propagate", True)
    kept = Kept()
    openers = {"wandb": Failing, "mlflow": never, **followers.openers_of(["csv"])}
    run = Followers(kept, openers, Tracked("a", tmp_path, SETTINGS), STEPS)
    for line in LINES:
        run.write(line)
    run.finish("voc2010 mAP", 50.0, REPORT)
    run.close()
    assert kept.lines == LINES
    assert (tmp_path / "tracked.csv").read_text().endswith("final/mAPs.voc2007,49.0\n")
    said = list(dict.fromkeys(record.getMessage() for record in caplog.records))  # two handlers may have each
    assert [text.partition(", and")[0] for text in said] == ["track=mlflow failed", "track=wandb failed"]
    assert "No space left on device; metrics.jsonl has all of it" in said[1]


def test_what_interrupts_the_run_is_not_kept_from_it(tmp_path: Path) -> None:
    class Interrupted(Failing):
        def write(self, step: int, epoch: float, values: Mapping[str, float]) -> None:
            raise KeyboardInterrupt

    run = Followers(Kept(), {"csv": Interrupted}, Tracked("a", tmp_path, SETTINGS), STEPS)
    with pytest.raises(KeyboardInterrupt):
        run.write(LINES[0])


def test_a_library_that_cannot_be_imported_is_named_with_its_command(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    monkeypatch.delitem(__import__("sys").modules, "lshfm.tracking.wandb", raising=False)
    with pytest.raises(InputError, match=r"track=wandb needs wandb .*: pip install 'lshfm\[wandb\]'"):
        followed(Kept(), ["wandb"], tmp_path, SETTINGS, STEPS)


def test_tensorboard_reads_back_what_was_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    follow(tmp_path, "tensorboard", lines=[*LINES[:3], StepLine(2, 2, 0.05, {"bce": 9.9})], finish=False)
    follow(tmp_path, "tensorboard", lines=LINES[3:], since=1)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(tmp_path / "tensorboard"))
    read.Reload()
    losses = [(event.step, round(event.value, 6)) for event in read.Scalars("train/bce")]
    assert losses == [(2, 0.5), (4, 0.4), (8, 0.3)]  # what was done again is purged
    assert [(e.step, e.value) for e in read.Scalars("final/score")] == [(8, 50.0)]
    assert "_hparams_/experiment" in read.summary_metadata


@pytest.mark.slow
def test_wandb_offline_keeps_a_run(tmp_path: Path, monkeypatch: Any, recwarn: Any) -> None:
    if find_spec("wandb") is None:
        pytest.skip("wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    follow(tmp_path, "wandb", lines=LINES)
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert json.loads((tmp_path / "tracking.json").read_text())["wandb"]


@pytest.mark.slow
def test_mlflow_goes_on_with_its_run(tmp_path: Path, monkeypatch: Any, recwarn: Any) -> None:
    if find_spec("mlflow") is None:
        pytest.skip("mlflow is not installed")
    monkeypatch.setitem(os.environ, "MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setitem(os.environ, "MLFLOW_ALLOW_FILE_STORE", "true")
    follow(tmp_path, "mlflow", lines=LINES[:3], finish=False)
    follow(tmp_path, "mlflow", lines=LINES[3:], since=1)
    from mlflow import MlflowClient

    client, name = MlflowClient(), json.loads((tmp_path / "tracking.json").read_text())["mlflow"]
    run = client.get_run(name)
    assert (run.info.status, run.data.params["lr"], run.data.metrics["final/score"]) == ("FINISHED", "0.1", 50.0)
    assert [(m.step, m.value) for m in client.get_metric_history(name, "train/bce")] == [(2, 0.5), (4, 0.4), (8, 0.3)]
