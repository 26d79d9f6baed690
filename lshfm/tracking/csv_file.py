"""tracked.csv in the run folder: a row a number, for tools that take long tables."""

import csv
import io
from collections.abc import Iterable, Mapping

from lshfm.files.write import append_line, write_text
from lshfm.tracking.tracker import Tracked

COLUMNS = ("step", "epoch", "name", "value")


class CsvFile:
    """Rows of step, epoch, name and value; the settings come first, at step 0."""

    def __init__(self, tracked: Tracked) -> None:
        self.path, self._step, self._epoch = tracked.folder / "tracked.csv", tracked.since, 0.0
        kept = self._rows_until(tracked.since) if tracked.since else []
        first = [(0, 0.0, f"settings/{name}", str(value)) for name, value in tracked.settings.items()]
        write_text(self.path, _text([COLUMNS, *(kept or first)]))

    def _rows_until(self, step: int) -> list[list[str]]:
        """The rows of a run that goes on, without those of steps that will be done again."""
        if not self.path.is_file():
            return []
        rows = list(csv.reader(io.StringIO(self.path.read_text(encoding="utf-8"))))
        return [row for row in rows[1:] if len(row) == len(COLUMNS) and row[0].isdigit() and int(row[0]) <= step]

    def write(self, step: int, epoch: float, values: Mapping[str, float]) -> None:
        """Rows at a step."""
        self._step, self._epoch = step, epoch
        if not values:
            return
        append_line(self.path, _text((step, epoch, name, value) for name, value in values.items()).rstrip("\n"))

    def finish(self, final: Mapping[str, float]) -> None:
        """Rows at the last step."""
        self.write(self._step, self._epoch, final)

    def close(self, *, finished: bool) -> None:
        """Nothing stays open."""


def _text(rows: Iterable[Iterable[object]]) -> str:
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerows(rows)
    return written.getvalue()
