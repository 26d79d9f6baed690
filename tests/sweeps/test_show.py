"""A sweep while it runs: the table of a terminal, and how far a job is."""

import json
from pathlib import Path

from rich.console import Console

from lshfm.runs.sweep import JobState, SweepJob, SweepRecord
from lshfm.sweeps import progress as progressing
from lshfm.sweeps.progress import Progress
from lshfm.sweeps.show import board

STATES = [JobState.FINISHED, JobState.RUNNING, JobState.FAILED, JobState.WAITING, JobState.WAITING]


def text(height: int, width: int = 120) -> list[str]:
    jobs = tuple(
        SweepJob(number=n, command=(), settings={"lr": str(n)}, state=state, device="GPU 1" if n == 2 else None)
        for n, state in enumerate(STATES, 1)
    )
    record = SweepRecord(name="a", command="train", command_line=(), jobs=jobs)
    running = Progress((), (), {"bce": 0.53219}, "mAP", 41.5)
    console = Console(width=width, record=True)
    console.print(board(record, {2: running}, {2: running}, height, width))
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_a_row_a_job_and_the_counts() -> None:
    head, *rows, counts = text(20)
    assert head.split() == ["job", "settings", "state", "epoch", "losses", "best", "to", "go", "on"]
    assert rows[1].split() == ["2", "lr=2", "running", "bce", "0.532", "41.50", "GPU", "1"]
    assert [row.split()[0] for row in rows] == ["1", "2", "3", "4", "5"]
    assert counts == "2 waiting, 1 running, 1 finished, 1 failed"


def test_where_not_all_have_room_those_at_work_come_first() -> None:
    _, *rows, _ = text(2)
    assert [row.split()[:3] for row in rows] == [["2", "lr=2", "running"], ["3", "lr=3", "failed"]]


def test_a_narrow_terminal_goes_without_losses() -> None:
    assert "losses" not in text(20, 80)[0]


def line(epoch: int, score: float | None = None) -> str:
    if score is None:
        return json.dumps({"version": 2, "kind": "step", "epoch": epoch, "step": 1, "lr": 0.1, "bce": 0.25}) + "\n"
    return json.dumps({"version": 2, "kind": "epoch", "epoch": epoch, "metric": "mAP", "score": score}) + "\n"


def test_progress_is_of_all_runs_of_a_job_and_scores_of_the_last(tmp_path: Path) -> None:
    for name in ("stage1", "stage2"):
        (tmp_path / name).mkdir()
    first, second = tmp_path / "stage1/metrics.jsonl", tmp_path / "stage2/metrics.jsonl"
    progress = Progress([first.parent, second.parent], [1, 4])
    assert (list(progress.read()), progress.done, progress.total) == ([], 0, 5)
    first.write_text(line(1, 99.0))
    second.write_text(line(1) + line(1, 30.0) + line(2)[:20])
    assert [each.epoch for each in progress.read()] == [1]  # of the last run alone; half a line is none
    assert (progress.done, progress.best, progress.losses) == (2, 30.0, {"bce": 0.25})
    second.write_text(line(1) + line(1, 30.0) + line(2) + line(2, 20.0))
    assert [each.epoch for each in progress.read()] == [2]
    assert (progress.done, progress.best) == (3, 30.0)
    progress.started = progressing.time.monotonic() - 30
    assert 19 < (progress.seconds_to_go() or 0) < 21  # 3 epochs in 30 s, 2 to go


def test_a_file_that_is_written_anew_is_read_from_its_start(tmp_path: Path) -> None:
    """A run that goes on drops the lines of steps that it will do again."""
    path = tmp_path / "metrics.jsonl"
    path.write_text(line(1, 10.0) + line(2))
    progress = Progress([tmp_path], [3])
    assert (list(progress.read()), progress.done) == ([], 1)  # of an earlier call: nothing new
    other = tmp_path / "other"
    other.write_text(line(1, 10.0) + line(2, 20.0))
    other.replace(path)
    assert [each.epoch for each in progress.read()] == [2]
