"""What a user sees: one logger, a progress bar and columns on a terminal, plain lines elsewhere."""

import io
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from importlib.util import find_spec
from textwrap import TextWrapper
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

SECONDS_BETWEEN_LINES = 30.0
TABLE_WIDTH = 80  # columns
STYLES = {"warning": "bold yellow", "error": "bold red", "critical": "bold red"}

logger = logging.getLogger("lshfm")


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Whoever read the output has gone (`| head`): go on in silence, the run folder's log has it all."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


_AS_IT_IS: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False, "soft_wrap": True}
console = _Console(**_AS_IT_IS)


def is_screen() -> bool:
    """Whether the console draws on a terminal; FORCE_COLOR colours what goes elsewhere, and makes no terminal of it."""
    return console.is_terminal and console.file.isatty() and not console.is_dumb_terminal


def _has_bars() -> bool:
    """Whether progress is drawn: on a terminal, and in a notebook that has what rich draws with there."""
    return is_screen() or (console.is_jupyter and find_spec("ipywidgets") is not None)


class _ToConsole(logging.Handler):
    """Shows a record's message, or what it brings as `on_screen` for a terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print it, broken between words on a terminal."""
        if on_screen := getattr(record, "on_screen", None):
            console.print(on_screen)
            return
        level = record.levelname.lower()
        prefix = f"{level}: " if level in STYLES else ""
        message = prefix + record.getMessage()
        text = Text(_broken_between_words(message, console.width) if is_screen() else message)
        text.stylize(STYLES.get(level, ""), 0, len(prefix))
        console.print(text)


def _broken_between_words(text: str, width: int) -> str:
    """Lines of at most so many columns; longer words stay whole, and so do indented lines, which are commands."""
    wrap = TextWrapper(width, break_long_words=False, break_on_hyphens=False)
    return "\n".join(line if line.startswith(" ") else wrap.fill(line) for line in text.split("\n"))


def set_up() -> None:
    """Send the project's log to the console; calling it twice changes nothing."""
    _escape_what_cannot_be_shown()
    logging.raiseExceptions = False  # a log on a full disk is no reason to print stacks
    if not logger.handlers:
        logger.addHandler(_ToConsole())
        logger.setLevel(logging.INFO)
        logger.propagate = False


def _escape_what_cannot_be_shown() -> None:
    """A name that the terminal's encoding lacks is no reason to stop: it is shown escaped, as in `printable`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower().replace("-", "") != "utf8":
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def silence() -> Iterator[None]:
    """Show neither log nor tables while the block runs: rank 0 speaks for all ranks, or the output is JSON."""
    level, console.quiet = logger.level, True
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)
        console.quiet = False


def speak(text: str) -> None:
    """Say something in spite of `silence`: what a rank waits for, which rank 0 cannot say for it."""
    if logger.isEnabledFor(logging.INFO):
        logger.info("%s", text)
    else:
        _Console(**_AS_IT_IS).print(text)


def show_tables(tables: RenderableType) -> None:
    """Print tables as wide as they need to be; a narrower terminal wraps them, no number is cut."""
    width = max(console.width, TABLE_WIDTH)
    _Console(file=console.file, width=width, quiet=console.quiet, **_AS_IT_IS).print(tables)


def shown(score: float | None) -> str:
    """A score in percent, or the word for one that is undefined."""
    return "undefined" if score is None else f"{score:.2f}"


def speed(images_per_second: float) -> str:
    """A rate, whole unless it is slow: "682 images/s", "0.18 images/s"."""
    return f"{speed_figure(images_per_second)} images/s"


def speed_figure(images_per_second: float) -> str:
    """The number of `speed`."""
    return f"{images_per_second:.0f}" if images_per_second >= 10 else f"{images_per_second:.2g}"


class Columns:
    """Numbers in columns under a head, for a terminal; on a narrow one every row is folded, and the head likewise.

    The head comes again where the columns change, and when it may have scrolled away.
    """

    NARROWEST, GAP, ROWS_UNDER_A_HEAD = 7, "  ", 20

    def __init__(self) -> None:
        self._widths: dict[str, int] = {}  # only ever wider, so that rows stay under each other
        self._head = ""
        self._num_rows = 0  # under the last head

    def log(self, cells: Mapping[str, str], plain: str) -> None:
        """Log `plain`; a terminal shows a row of `cells`, names of columns and what stands in them, in its place."""
        logger.info("%s", plain, extra={"on_screen": self.row(cells, console.width) if is_screen() else None})

    def row(self, cells: Mapping[str, str], width: int) -> Text:
        """The row in `width` columns, after the head where that is due."""
        for name, value in cells.items():
            self._widths[name] = max(self._widths.get(name, self.NARROWEST), len(name), len(value))
        head, row = self._folded({name: name for name in cells}, width), self._folded(cells, width)
        is_due = head != self._head or self._num_rows >= self.ROWS_UNDER_A_HEAD
        self._head, self._num_rows = head, 1 if is_due else self._num_rows + 1
        return Text.assemble((f"{head}\n", "bold"), row) if is_due else Text(row)

    def _folded(self, texts: Mapping[str, str], width: int) -> str:
        """Each text in its column; a line that continues another leaves the first column empty."""
        cells = [f"{text:>{self._widths[name]}}" for name, text in texts.items()]
        indent = len(cells[0])
        lines = [cells[0]]
        for cell in cells[1:]:
            if len(lines[-1]) > indent and len(lines[-1] + self.GAP + cell) > width:
                lines.append(" " * indent)
            lines[-1] += self.GAP + cell
        return "\n".join(lines)


class _Description(ProgressColumn):
    """A bar's text in the room that is left, the only column that gives way."""

    def render(self, task: Task) -> Text:
        return Text(task.description, no_wrap=True, overflow="ellipsis" if console.encoding == "utf-8" else "crop")


class Bar:
    """Progress through `total` parts: a bar on a terminal, a line every half minute elsewhere."""

    def __init__(self, text: str, total: int, done: int = 0) -> None:
        self.text, self.total = text, total
        self._line_due = time.monotonic() + SECONDS_BETWEEN_LINES
        columns = (
            BarColumn(10, table_column=Column(no_wrap=True)),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TimeRemainingColumn(table_column=Column(no_wrap=True, min_width=8, justify="right")),
            _Description(table_column=Column(no_wrap=False)),
        )
        self._progress = Progress(*columns, console=console, transient=True, disable=console.quiet or not _has_bars())
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
        if not _has_bars() and time.monotonic() >= self._line_due and done < self.total:
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
