"""metrics.csv: a row an epoch, from the lines, the same however often the run was stopped."""

import csv
from pathlib import Path

import pytest

from lshfm.engine.lines import EpochLine, Line, StepLine
from lshfm.errors import RunFailed
from lshfm.runs import record
from lshfm.runs.epochs import EpochTable
from lshfm.runs.record import Metrics

LINES: list[Line] = [
    StepLine(1, 2, 0.5, {"bce": 4.0, "l2": 1.0}, 10.0),
    StepLine(1, 3, 0.25, {"bce": 1.0, "l2": 4.0}, 40.0),
    EpochLine(1, "voc2010 mAP", 27.5, {"angle": 61.5}, 0.75, 8.5),
    StepLine(2, 2, 0.125, {"bce": 3.0, "l2": 0.5}),
    StepLine(2, 3, 0.0625, {"bce": 1.5, "l2": 0.25}, 16.0),
    EpochLine(2, "voc2010 mAP", None, {"angle": None}, 0.5, 9.0),
]
TEXT = """\
epoch,bce,l2,validation_loss,voc2010 mAP,angle,lr,images_per_second,seconds
1,3.0,2.0,0.75,27.5,61.5,0.25,13.33,8.5
2,2.5,0.4166666666666667,0.5,,,0.0625,16.0,9.0
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def table(path: Path) -> str:
    return path.with_suffix(".csv").read_text()


def test_rows_to_the_byte() -> None:
    assert EpochTable(LINES).text() == TEXT


def test_every_epoch_of_a_run_leaves_its_row(path: Path) -> None:
    metrics = Metrics(path)
    for line in LINES[:3]:
        metrics.write(line)
    assert table(path) == "".join(TEXT.splitlines(keepends=True)[:2])
    for line in LINES[3:]:
        metrics.write(line)
    assert table(path) == TEXT
    assert list(csv.DictReader(table(path).splitlines()))[1]["voc2010 mAP"] == ""


def test_a_resumed_run_has_the_same_rows(path: Path) -> None:
    for line in [*LINES[:4], StepLine(2, 3, 9.0, {"bce": 9.0, "l2": 9.0}, 9.0)]:
        Metrics(path).write(line)  # another process each time
    resumed = Metrics(path)
    resumed.forget_after(1, 2)
    assert table(path) == "".join(TEXT.splitlines(keepends=True)[:2])
    for line in LINES[4:]:
        resumed.write(line)
    assert table(path) == TEXT


def test_a_row_that_a_killed_run_did_not_write_comes_with_its_continuation(path: Path) -> None:
    for line in LINES:
        Metrics(path).write(line)
    path.with_suffix(".csv").unlink()
    Metrics(path).forget_after(2, 0)
    assert table(path) == TEXT


def test_old_lines_have_their_rows(path: Path) -> None:
    path.write_text(
        '{"epoch": 1, "step": 4, "lr": 0.5, "bce": 2.0, "images_per_second": 20.25}\n'
        '{"epoch": 1, "metric": "mAP", "score": 2.5}\n'
    )
    Metrics(path).write(EpochLine(2, "mAP", 3.5, seconds=1.0))
    assert table(path) == (
        "epoch,bce,validation_loss,mAP,lr,images_per_second,seconds\n1,2.0,,2.5,0.5,20.25,\n2,,,3.5,,,1.0\n"
    )


def test_lines_without_an_end_make_no_row(path: Path) -> None:
    Metrics(path).write(LINES[0])
    assert not path.with_suffix(".csv").exists()
    Metrics(path).forget_after(0, 0)
    assert table(path) == "epoch\n"


def test_steps_of_a_damaged_file_that_go_backwards_are_no_fault() -> None:
    lines = [StepLine(1, 5, 0.1, {"bce": 1.0}, 4.0), StepLine(1, 5, 0.1, {"bce": 1.0}, 0.0), EpochLine(1, "mAP", 1.0)]
    assert EpochTable(lines).rows == [
        {"epoch": 1, "bce": 1.0, "validation_loss": None, "mAP": 1.0, "lr": 0.1, "images_per_second": 4.0}
        | {"seconds": None}
    ]


def test_a_full_disk_leaves_the_table_before(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = Metrics(path)
    for line in LINES[:3]:
        metrics.write(line)
    before = table(path)

    def full(path: Path, text: str) -> None:
        raise RunFailed("the disk is full")

    monkeypatch.setattr(record, "write_text", full)
    with pytest.raises(RunFailed, match="full"):
        metrics.write(LINES[5])
    assert table(path) == before
