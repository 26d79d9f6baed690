"""metrics.csv: a run's lines as a table, a row an epoch, for spreadsheets and plots."""

import csv
import io
from collections.abc import Iterable

from lshfm.engine.lines import EpochLine, Line, StepLine

Row = dict[str, int | float | None]


class EpochTable:
    """Rows from lines as they come; the same lines give the same rows, whether the run was stopped or not."""

    def __init__(self, lines: Iterable[Line] = ()) -> None:
        self.rows: list[Row] = []
        self._steps: list[StepLine] = []  # of the epoch at hand
        for line in lines:
            self.add(line)

    def add(self, line: Line) -> None:
        """Count a line in; that of an epoch's end makes a row."""
        if isinstance(line, StepLine):
            self._steps.append(line)
        else:
            self.rows.append(_row([step for step in self._steps if step.epoch == line.epoch], line))
            self._steps = []

    def text(self) -> str:
        """All rows as CSV under the names of all columns; what an epoch does not have is empty."""
        whole_first = sorted(self.rows, key=lambda row: "validation_loss" not in row)  # as evaluated ones have
        columns = list(dict.fromkeys(name for row in whole_first for name in row)) or ["epoch"]
        written = io.StringIO()
        table = csv.DictWriter(written, columns, lineterminator="\n")
        table.writeheader()
        table.writerows(self.rows)
        return written.getvalue()


def _row(steps: list[StepLine], end: EpochLine) -> Row:
    """Losses are means over the epoch's steps; lr is that of the last one; images a second while training."""
    ends = [line.step for line in steps]
    numbers = [max(end - before, 1) for before, end in zip([0, *ends], ends, strict=False)]  # 1: of a damaged file
    row: Row = {"epoch": end.epoch}
    for name in dict.fromkeys(name for line in steps for name in line.losses):
        there = [
            (number, line.losses[name]) for number, line in zip(numbers, steps, strict=True) if name in line.losses
        ]
        row[name] = sum(number * loss for number, loss in there) / sum(number for number, _ in there)
    if end.metric:
        row |= {"validation_loss": end.validation_loss, end.metric: end.score, **end.beside}
    return row | {
        "lr": steps[-1].lr if steps else None,
        "images_per_second": _speed(numbers, steps),
        "seconds": end.seconds,
    }


def _speed(numbers: list[int], steps: list[StepLine]) -> float | None:
    """Images a second over all steps that were timed."""
    timed = [(n, line.images_per_second) for n, line in zip(numbers, steps, strict=True) if line.images_per_second]
    return round(sum(n for n, _ in timed) / sum(n / rate for n, rate in timed), 2) if timed else None
