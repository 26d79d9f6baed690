"""Runs that are evaluated after some epochs only: names, records, resuming, another length."""

import csv
import json
from pathlib import Path

import pytest

from lshfm.engine.lines import EpochLine
from lshfm.runs.naming import train_name
from lshfm.runs.record import Metrics, read_metrics
from tests.cli.test_runs import assert_same_run
from tests.runs.test_training import State, after_step, end_of, kill, train, train_job

pytestmark = pytest.mark.usefixtures("hydra")


def test_a_run_stopped_anywhere_goes_on_to_the_same_bits() -> None:
    """eval_every=2 of 3 epochs: evaluated after 2 and 3; stopped in epoch 2, after an epoch without evaluation."""
    train(train_job("name=whole", "eval_every=2"))
    assert end_of(train_job("name=part", "eval_every=2"), State, "update", after_step((1, 2), kill)) is not None
    train(train_job("name=part", "eval_every=2"))
    assert_same_run(Path(), "part", "whole")
    rows = list(csv.DictReader(Path("outputs/train/part/metrics.csv").read_text().splitlines()))
    assert [bool(row["voc2010 mAP"]) for row in rows] == [False, True, True]
    assert all(row["bce"] for row in rows)
    results = json.loads(Path("outputs/train/part/results.json").read_text())
    assert [entry["epoch"] for entry in results["history"]] == [2, 3]
    assert results["score"] == results["history"][-1]["score"]


def test_an_end_that_was_no_evaluated_epoch_is_evaluated_now() -> None:
    """A run of 3 epochs stopped after 1, which is asked for no more than that: its score is of what it leaves."""
    assert end_of(train_job("name=run", "eval_every=2"), State, "update", after_step((1, 2), kill)) is not None
    train(train_job("name=run", "eval_every=2", "epochs=1", "schedule.cosine_epochs=1"))
    train(train_job("name=other", "epochs=1", "eval_every=2"))
    results = [json.loads(Path(f"outputs/train/{name}/results.json").read_text()) for name in ("run", "other")]
    assert [entry["epoch"] for entry in results[0]["history"]] == [1]
    ends = [line for line in read_metrics(Path("outputs/train/run/metrics.jsonl")) if not hasattr(line, "step")]
    assert len(ends) == 1


def test_only_another_number_is_another_run(tmp_path: Path) -> None:
    assert train_name(train_job("eval_every=1")) == train_name(train_job())
    assert "_eval_every-2" in train_name(train_job("eval_every=2"))


def test_a_line_of_an_epoch_without_evaluation_is_read_back(tmp_path: Path) -> None:
    line = EpochLine(1, seconds=2.5)
    Metrics(tmp_path / "metrics.jsonl").write(line)
    assert "metric" not in json.loads((tmp_path / "metrics.jsonl").read_text())
    assert read_metrics(tmp_path / "metrics.jsonl") == [line]
