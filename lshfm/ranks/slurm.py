"""Runs a job in a process that submitit started under SLURM: its exit code, and saving before it is requeued."""

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from subprocess import SubprocessError
from types import FrameType
from typing import Any, NoReturn

from lshfm import console, outcome
from lshfm.ranks.launch import leave, outcome_of

SECONDS_FOR_THE_FIRST = 10.0  # SLURM may end all tasks of a job as soon as one has ended


def run(work: Callable[[], None]) -> None:
    """A job's work in a process that a launcher has started: it ends as a command does, exit code included."""
    console.set_up()
    outcome.raise_on_sigterm()
    _save_before_requeue()

    def task() -> int:
        work()
        return 0

    if code := outcome_of(task):
        leave(code)


def _save_before_requeue() -> None:
    """On SIGUSR2, where submitit would requeue the job at once, first finish the step and save, as on SIGTERM."""
    requeue = signal.getsignal(signal.SIGUSR2)
    if not callable(requeue):
        return
    requeue_asked: list[int] = []

    def ask(number: int, _frame: FrameType | None) -> None:
        requeue_asked.append(number)
        signal.raise_signal(signal.SIGTERM)

    def end(_number: int, frame: FrameType | None) -> NoReturn:
        if requeue_asked:
            requeue_asked.clear()  # SLURM sends SIGTERM to what it requeues
            _requeue(lambda: requeue(signal.SIGUSR2, frame))
        raise outcome.Terminated

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGUSR2, ask)


def _requeue(requeue: Callable[[], Any]) -> None:
    try:
        with suppress(SystemExit):
            requeue()  # returns in every task but the first, which is the one to ask SLURM
            time.sleep(SECONDS_FOR_THE_FIRST)
    except (RuntimeError, OSError, SubprocessError) as error:
        console.logger.warning("%s", error)
