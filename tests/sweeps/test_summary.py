"""What came of a sweep: means and deviations over seeds, best first, on the console and in files."""

import csv
import json
import statistics
from pathlib import Path

import pytest
from rich.console import Console

from lshfm.runs.sweep import JobState, SweepJob, SweepRecord
from lshfm.sweeps.summary import Row, rows, table, write_summary


def job(
    root: Path, number: int, score: float | None = None, held_out: float | None = None, **settings: str
) -> SweepJob:
    """A job, finished with a score if one is given."""
    run = root / "outputs/train" / f"run{number}"
    run.mkdir(parents=True)
    if score is not None:
        chosen = (
            "6 images held out of train" if held_out else "test, the test split itself: the best epoch is flattered"
        )
        results = {"version": 2, "name": run.name, "metric": "mAP", "score": score, "split": "test", "report": {}}
        results |= {"best": {"score": held_out or score}, "best_chosen_on": chosen}
        (run / "results.json").write_text(json.dumps(results))
    state = JobState.FAILED if score is None else JobState.FINISHED
    return SweepJob(number=number, command=(), settings=settings, runs=(f"../../train/run{number}",), state=state)


def record(*jobs: SweepJob) -> SweepRecord:
    return SweepRecord(name="a", command="train", command_line=(), jobs=jobs)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "outputs/sweeps/a"
    path.mkdir(parents=True)
    return path


def swept(root: Path) -> SweepRecord:
    return record(
        job(root, 1, 10.0, lr="0.1", seed="0"), job(root, 2, 14.0, lr="0.1", seed="1"),
        job(root, 3, 20.0, lr="0.2", seed="0"), job(root, 4, None, lr="0.2", seed="1"),
        job(root, 5, None, lr="0.3", seed="0"),
    )  # fmt: skip


def test_jobs_that_differ_in_their_seed_alone_are_a_row(folder: Path, tmp_path: Path) -> None:
    found = rows(swept(tmp_path), folder)
    assert [(row.settings, row.mean, row.std, row.failed) for row in found] == [
        ({"lr": "0.2"}, 20.0, None, 1),
        ({"lr": "0.1"}, 12.0, statistics.stdev([10, 14]), 0),
        ({"lr": "0.3"}, None, None, 1),
    ]  # fmt: skip
    assert found[1].scores == {"run1": 10.0, "run2": 14.0}


def test_rows_are_ranked_by_images_held_out_where_there_are_some(folder: Path, tmp_path: Path) -> None:
    """The test split is not to choose by."""
    found = rows(record(job(tmp_path, 1, 10.0, 50.0, lr="1"), job(tmp_path, 2, 90.0, 40.0, lr="2")), folder)
    assert [(row.settings["lr"], row.held_out, row.mean) for row in found] == [("1", 50.0, 10.0), ("2", 40.0, 90.0)]
    assert [row.held_out for row in rows(record(job(tmp_path, 3, 1.0)), folder)] == [None]


def test_results_that_cannot_be_read_count_as_none(folder: Path, tmp_path: Path) -> None:
    one = job(tmp_path, 1, 10.0)
    (tmp_path / "outputs/train/run1/results.json").write_text("{")
    assert [(row.mean, row.failed) for row in rows(record(one), folder)] == [(None, 1)]


def test_files(folder: Path, tmp_path: Path) -> None:
    record = swept(tmp_path)
    write_summary(record, folder, rows(record, folder))
    lines = list(csv.DictReader((folder / "summary.csv").read_text().splitlines()))
    assert [(line["rank"], line["lr"], line["mean"], line["runs"], line["failed"]) for line in lines] == [
        ("1", "0.2", "20.0", "1", "1"), ("2", "0.1", "12.0", "2", "0"), ("3", "0.3", "", "0", "1"),
    ]  # fmt: skip
    summary = json.loads((folder / "summary.json").read_text())
    assert [row["mean"] for row in summary["rows"]] == [20.0, 12.0, None]
    assert [each["state"] for each in summary["jobs"]] == ["finished", "finished", "finished", "failed", "failed"]


def test_what_is_swept_is_no_markup(tmp_path: Path) -> None:
    row = Row({"name": "[red]a\x1b[0m"}, "mAP", 1.0, None, {"a": 1.0}, None, 0)
    console = Console(width=100, record=True)
    console.print(table([row]))
    assert "[red]a\\x1b[0m" in console.export_text()
