"""What a user sees: one logger, a progress bar on a terminal, plain lines elsewhere."""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 30.0

logger = logging.getLogger("lshfm")


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Whoever read the output has gone (`| head`): go on in silence, the run folder's log has it all."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


console = _Console(highlight=False, markup=False, emoji=False, soft_wrap=True)


class _ToConsole(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        prefix = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        console.print(prefix + record.getMessage())


def set_up() -> None:
    """Send the project's log to the console; calling it twice changes nothing."""
    logging.raiseExceptions = False  # a log on a full disk is no reason to print stacks
    if not logger.handlers:
        logger.addHandler(_ToConsole())
        logger.setLevel(logging.INFO)
        logger.propagate = False


@contextmanager
def silence() -> Iterator[None]:
    """Neither log nor anything else is shown while the block runs: another rank speaks for all."""
    level, console.quiet = logger.level, True
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)
        console.quiet = False


def shown(score: float | None) -> str:
    """A score in percent, or the word for one that is undefined."""
    return "undefined" if score is None else f"{score:.2f}"


@contextmanager
def also_to(path: Path) -> Iterator[None]:
    """Append the log to a file while the block runs."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


class Bar:
    """Progress through `total` parts: a bar on a terminal, a line every half minute elsewhere."""

    def __init__(self, text: str, total: int, done: int = 0) -> None:
        self.text, self.total = text, total
        self._line_due = time.monotonic() + SECONDS_BETWEEN_LINES
        columns = (
            BarColumn(16),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),  # last: a narrow terminal cuts it
        )
        is_hidden = console.quiet or not console.is_terminal
        self._progress = Progress(*columns, console=console, transient=True, disable=is_hidden)
        self._task = self._progress.add_task(text, total=total, completed=done)

    def __enter__(self) -> "Bar":
        """Show the bar; it can be left and entered again."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, done: int, text: str = "") -> None:
        """Say that `done` parts are done; `text` replaces what stood before the bar."""
        self.text = text or self.text
        self._progress.update(self._task, completed=done, description=self.text)
        if not console.is_terminal and time.monotonic() >= self._line_due and done < self.total:
            self._line_due = time.monotonic() + SECONDS_BETWEEN_LINES
            left = self._progress.tasks[0].time_remaining
            eta = "" if left is None else f", {timedelta(seconds=round(left))} to go"
            logger.info("%s: %d of %d%s", self.text, done, self.total, eta)


@contextmanager
def progress(text: str) -> Iterator[Callable[[int, int], None]]:
    """A callback (done, total) for work whose total is known once it starts."""
    bars: list[Bar] = []

    def report(done: int, total: int) -> None:
        if not bars:
            bars.append(Bar(text, total).__enter__())
        bars[0].update(done)

    try:
        yield report
    finally:
        for bar in bars:
            bar.__exit__()
