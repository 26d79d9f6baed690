"""What came of a sweep: its settings ranked by their mean score over seeds, as a table, CSV and JSON."""

import csv
import io
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from lshfm.config.sweeping import title
from lshfm.console import console, logger, show_tables
from lshfm.errors import InputError, RunFailed, count, printable
from lshfm.files.write import write_json, write_text
from lshfm.runs.record import Results
from lshfm.runs.sweep import JobState, SweepJob, SweepRecord, paths_of

VERSION = 1
OVER = "seed"  # what means are over


@dataclass(frozen=True)
class Row:
    """Jobs that differ in their seed alone."""

    settings: dict[str, str]  # what differs between rows
    metric: str | None
    mean: float | None
    std: float | None  # of a sample; None of less than two
    scores: dict[str, float | None]  # by run
    held_out: float | None  # mean of the best scores on held-out images, where there are some
    failed: int  # jobs without a result

    @property
    def score(self) -> float | None:
        """What rows are ranked by: held-out images before the test split."""
        return self.mean if self.held_out is None else self.held_out


@dataclass(frozen=True)
class Number:
    """What a job came to."""

    metric: str
    score: float | None
    held_out: float | None


def rows(record: SweepRecord, folder: Path) -> list[Row]:
    """The rows, best first; those without a score last."""
    numbers = {job.number: number_of(job, folder) for job in record.jobs}
    groups: dict[tuple[tuple[str, str], ...], list[SweepJob]] = {}
    for job in record.jobs:
        key = tuple((name, value) for name, value in job.settings.items() if name != OVER)
        groups.setdefault(key, []).append(job)
    found = [_row(jobs, numbers) for jobs in groups.values()]
    return sorted(found, key=lambda row: (row.metric or "~", row.score is None, -(row.score or 0)))


def _row(jobs: Sequence[SweepJob], numbers: Mapping[int, Number | None]) -> Row:
    known = [(job, number) for job in jobs if (number := numbers[job.number])]
    scores = [number.score for _, number in known if number.score is not None]
    held = [number.held_out for _, number in known if number.held_out is not None]
    return Row(
        settings={key: value for key, value in jobs[0].settings.items() if key != OVER},
        metric=known[0][1].metric if known else None,
        mean=statistics.fmean(scores) if scores else None,
        std=statistics.stdev(scores) if len(scores) > 1 else None,
        scores={Path(job.runs[-1]).name: number.score for job, number in known},
        held_out=statistics.fmean(held) if held else None,
        failed=len(jobs) - len(known),
    )


def number_of(job: SweepJob, folder: Path) -> Number | None:
    """The score of a finished job, from its folder; None where there is none that can be read."""
    if job.state is not JobState.FINISHED or not job.runs:
        return None
    (run,) = paths_of(folder, job.runs[-1:])
    try:
        results = Results.read(run / "results.json")
    except (OSError, InputError):
        return None
    held_out = (results.best or {}).get("score") if _is_held_out(results.best_chosen_on or "") else None
    return Number(results.metric, results.score, held_out)


def _is_held_out(chosen_on: str) -> bool:
    """Whether epochs were scored on images held out of the training split, by the words of the results on it."""
    return " held out of " in chosen_on and "the test split itself" not in chosen_on


def write_summary(record: SweepRecord, folder: Path, found: Sequence[Row]) -> None:
    """Write summary.csv and summary.json into the sweep's folder. Raises RunFailed when the disk is full."""
    write_json(
        folder / "summary.json",
        {"version": VERSION, "name": record.name, "rows": [asdict(row) for row in found], "jobs": _jobs(record)},
    )
    write_text(folder / "summary.csv", _csv(found))


def _jobs(record: SweepRecord) -> list[dict[str, Any]]:
    kept = ("number", "settings", "state", "error", "runs")
    return [{name: value for name, value in asdict(job).items() if name in kept} for job in record.jobs]


def _csv(found: Sequence[Row]) -> str:
    names = _names(found)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["rank", *names, "metric", "mean", "std", "runs", "failed", "held_out"])
    for rank, row in enumerate(found, 1):
        numbers = [row.metric, row.mean, row.std, len(row.scores), row.failed, row.held_out]
        table.writerow([rank, *(row.settings.get(name, "") for name in names), *numbers])
    return text.getvalue()


def _names(found: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in found for name in row.settings))


def table(found: Sequence[Row]) -> Table:
    """The ranking for the console."""
    drawn = Table(box=None, pad_edge=False)
    names, has_held = _names(found), any(row.held_out is not None for row in found)
    for name in ("", *names, "metric", *(["held out"] if has_held else []), "mean", "std", "runs", "failed"):
        drawn.add_column(Text(name), justify="left" if name in (*names, "metric") else "right")
    for rank, row in enumerate(found, 1):
        numbers = [*([_shown(row.held_out)] if has_held else []), _shown(row.mean), _shown(row.std)]
        settings = [printable(row.settings.get(name, "")) for name in names]
        cells = [str(rank), *settings, row.metric or "", *numbers, str(len(row.scores)), str(row.failed or "")]
        drawn.add_row(*map(Text, cells))
    return drawn


def _shown(number: float | None) -> str:
    return "" if number is None else f"{number:.2f}"


def finish(record: SweepRecord, folder: Path) -> None:
    """Show and write the summary. Raises RunFailed naming the jobs that did not finish."""
    show_summary(record, folder)
    if left := unfinished(record):
        listed = "\n".join(f"  {_line(job, folder)}" for job in left)
        raise RunFailed(f"{len(left)} of {count(len(record.jobs), 'job')} did not finish:\n{listed}")


def show_summary(record: SweepRecord, folder: Path) -> None:
    """Rank what came of the jobs, on the console and in files."""
    found = rows(record, folder)
    if any(row.scores for row in found):
        show_tables(table(found))
    try:
        write_summary(record, folder, found)
        console.print(f"summary: {folder / 'summary.csv'}, and summary.json beside it")
    except (OSError, RunFailed) as error:
        logger.warning("no summary was written: %s", error)


def _line(job: SweepJob, folder: Path) -> str:
    name = f"job {job.number} ({printable(title(job.settings))})".replace(" ()", "")
    log = f" ({folder / str(job.log)})" if job.state is JobState.FAILED and job.log else ""
    return f"{name}: {printable(job.error or str(job.state))}{log}"


def unfinished(record: SweepRecord) -> list[SweepJob]:
    """The jobs that came to no end of their own."""
    return [job for job in record.jobs if job.state not in (JobState.FINISHED, JobState.PRUNED)]
