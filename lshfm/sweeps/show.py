"""What is seen of a sweep while it runs: a table that is drawn anew on a terminal, a line for each event elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.live import Live
from rich.table import Table
from rich.text import Text

from lshfm.config.sweeping import title
from lshfm.console import console, is_screen, logger, shown
from lshfm.engine.lines import EpochLine
from lshfm.errors import count, printable
from lshfm.runs.sweep import JobState, SweepJob, SweepRecord
from lshfm.sweeps.progress import Progress

SECONDS_BETWEEN_TABLES = 1.0
STYLES = {JobState.FAILED: "red", JobState.NOT_STARTED: "red", JobState.RUNNING: "bold", JobState.FINISHED: "green"}
IN_FRONT = (JobState.RUNNING, JobState.FAILED, JobState.STOPPED, JobState.WAITING)  # where not all jobs have room


class Lines:
    """A line a start, an end and an epoch of each job."""

    def __init__(self, record: SweepRecord) -> None:
        self.total = max(len(record.jobs), record.trials or 0)

    def started(self, job: SweepJob) -> None:
        """Say that a job is at work."""
        logger.info("%s started on %s", _words(job, self.total), job.device)

    def epoch(self, job: SweepJob, line: EpochLine) -> None:
        """Say what an epoch came to."""
        score = f", {line.metric} {shown(line.score)}" if line.metric else ""
        logger.info("job %d: epoch %d%s", job.number, line.epoch, score)

    def ended(self, job: SweepJob, progress: Progress) -> None:
        """Say how a job ended."""
        best = f", best {progress.metric} {shown(progress.best)}" if progress.metric else ""
        error = f": {printable(job.error)}" if job.error else ""
        logger.info("%s %s%s", _words(job, self.total), job.state, error or best)

    def look(self, record: SweepRecord, running: dict[int, Progress]) -> None:
        """Nothing to draw."""


class Board(Lines):
    """One table of all jobs, drawn anew each second; ends of jobs stay above it."""

    def __init__(self, record: SweepRecord, live: Live) -> None:
        super().__init__(record)
        self._live, self._due = live, 0.0
        self._best: dict[int, Progress] = {}

    def started(self, job: SweepJob) -> None:
        """The table shows it."""

    def epoch(self, job: SweepJob, line: EpochLine) -> None:
        """The table shows it."""

    def ended(self, job: SweepJob, progress: Progress) -> None:
        """Keep what it has come to for the table; what failed is said above it."""
        self._best[job.number] = progress
        if job.state in (JobState.FAILED, JobState.NOT_STARTED):
            super().ended(job, progress)

    def look(self, record: SweepRecord, running: dict[int, Progress]) -> None:
        """Draw the table, where that is due."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + SECONDS_BETWEEN_TABLES
            table = board(record, self._best | running, running, console.height - 6, console.width)
            self._live.update(table, refresh=True)


@contextmanager
def view(record: SweepRecord) -> Iterator[Lines]:
    """Who shows the sweep while the block runs."""
    if not is_screen():
        yield Lines(record)
        return
    # Drawn by hand: no thread of rich's, for jobs are forked off this process.
    with Live(
        console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
    ) as live:
        yield Board(record, live)


def board(
    record: SweepRecord, known: dict[int, Progress], running: dict[int, Progress], height: int, width: int
) -> Table:
    """The jobs in at most so many rows, those at work first where not all have room; the counts below."""
    jobs = list(record.jobs)
    if len(jobs) > max(height, 1):
        rank = {state: number for number, state in enumerate(IN_FRONT)}
        jobs = sorted(jobs, key=lambda job: rank.get(job.state, len(rank)))[: max(height, 1)]
    table = Table(caption=_counts(record, running), caption_justify="left", box=None, pad_edge=False)
    wide = width >= 100
    for name in ("job", "settings", "state", "epoch", *(["losses"] if wide else []), "best", "to go", "on"):
        table.add_column(name, justify="right" if name in ("job", "best", "to go") else "left", no_wrap=True)
    for job in sorted(jobs, key=lambda job: job.number):
        progress = known.get(job.number) or Progress((), ())
        cells = [str(job.number), printable(title(job.settings)), str(job.state), _epochs(progress)]
        cells += [_losses(progress)] if wide else []
        cells += [shown(progress.best) if progress.best is not None else ""]
        cells += [_seconds(progress.seconds_to_go()) if job.number in running else "", job.device or ""]
        table.add_row(*map(Text, cells), style=STYLES.get(job.state, ""))
    return table


def _epochs(progress: Progress) -> str:
    return f"{progress.done}/{progress.total}" if progress.total else ""


def _losses(progress: Progress) -> str:
    return " ".join(f"{name} {value:.3g}" for name, value in progress.losses.items())


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else str(timedelta(seconds=round(seconds)))


def _counts(record: SweepRecord, running: dict[int, Progress]) -> Text:
    """How many jobs are in which state, and when all may be done."""
    states = [job.state for job in record.jobs]
    counts = ", ".join(f"{states.count(state)} {state}" for state in JobState if state in states)
    rest = [each.seconds_to_go() for each in running.values()]
    most = max((seconds for seconds in rest if seconds is not None), default=None)
    waits = f", then {count(states.count(JobState.WAITING), 'job')} more" if JobState.WAITING in states else ""
    return Text(counts + (f"; {_seconds(most)} to go{waits}" if most is not None else ""))


def _words(job: SweepJob, total: int) -> str:
    return f"job {job.number} of {total} ({printable(title(job.settings))})".replace(" ()", "")
