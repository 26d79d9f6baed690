"""log.txt of a run folder: who ran what and where, all that was said, and how it ended."""

import logging
import platform
import shlex
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import torch

from lshfm import __version__, outcome
from lshfm.console import logger
from lshfm.errors import LshfmError
from lshfm.ranks.device import describe_hardware
from lshfm.ranks.group import is_main, is_peer_lost, rank
from lshfm.runs.provenance import revision


def logged(typed: Sequence[str], device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Keep what is said while the block runs for the log of each run in it, which begins so: all is said before that.

    typed: the command line. device, precision: this rank's; rank 0 alone writes.
    """
    return remembering(*(opening(typed, device, precision) if is_main() else ()))


def opening(typed: Sequence[str], device: torch.device, precision: str) -> list[str]:
    """The first lines of a log: command line, versions, machine."""
    found, at = describe_hardware(device, precision), revision()
    versions = ", ".join(f"{name} {found[name]}" for name in ("python", "torch", "torchvision", "pillow"))
    return [
        f"$ {shlex.join(typed)}",
        f"lshfm {__version__}{f' at {at}' if at else ''}, {versions}",
        f"on {platform.node()}: {found['device']}, {found['arithmetic']}",
    ]


@contextmanager
def log_in(path: Path) -> Iterator[None]:
    """The log goes to a file too while the block runs, and what ends the block early is its last line; for rank 0."""
    with also_to(path) as note:
        try:
            yield
        except BaseException as error:
            note(logging.ERROR if isinstance(error, Exception) else logging.INFO, ending(error))
            raise


@contextmanager
def errors_in(path: Path) -> Iterator[None]:
    """An error that ends the block, and is this rank's own, goes into rank 0's log; for the other ranks."""
    try:
        yield
    except Exception as error:
        is_own = not is_peer_lost(error) and not getattr(error, "of_all", False)
        if is_own and path.exists():
            with also_to(path) as note:
                note(logging.ERROR, f"rank {rank()}: {ending(error)}")
        raise


def ending(error: BaseException) -> str:
    """What stopped a run, in words; of an unforeseen error all that helps to find it."""
    if isinstance(error, KeyboardInterrupt):
        return "stopped by SIGINT"
    if isinstance(error, outcome.Terminated):
        return "stopped by SIGTERM"
    if is_peer_lost(error):
        return "another rank has ended; its message says why"
    if isinstance(error, LshfmError | OSError):
        return outcome.message_of(error)
    return "".join(traceback.format_exception(error)).rstrip()


class _Memory(logging.Handler):
    """The records that the next file begins with."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


_memory = _Memory()
Note = Callable[[int, str], None]  # (level, text) to a log file alone


@contextmanager
def remembering(*first: str) -> Iterator[None]:
    """Remember what the log is told while the block runs and no file takes it; every file of the block begins with it.

    first: lines that are not shown and come before it.
    """
    before, is_outer = len(_memory.records), _memory not in logger.handlers
    for line in first:
        _memory.handle(_record(logging.INFO, line))
    logger.addHandler(_memory)
    try:
        yield
    finally:
        del _memory.records[before:]
        if is_outer:
            logger.removeHandler(_memory)


@contextmanager
def also_to(path: Path) -> Iterator[Note]:
    """Append what is remembered, and the log while the block runs, to a file."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    is_remembering = _memory in logger.handlers
    for record in _memory.records:
        handler.handle(record)
    logger.removeHandler(_memory)
    logger.addHandler(handler)
    try:
        yield lambda level, text: _write(handler, level, text)
    finally:
        logger.removeHandler(handler)
        handler.close()
        if is_remembering:
            logger.addHandler(_memory)


def _write(handler: logging.Handler, level: int, text: str) -> None:
    handler.handle(_record(level, text))


def _record(level: int, text: str) -> logging.LogRecord:
    return logger.makeRecord(logger.name, level, __file__, 0, "%s", (text,), None)
