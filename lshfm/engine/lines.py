"""The lines that a run records while it trains: losses of some steps, or the evaluation after an epoch.

Lines are equal whenever they were written.
"""

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Waiting:
    """How long the fastest rank waited for the slowest one since the last line."""

    seconds: float
    for_rank: int


@dataclass(frozen=True)
class StepLine:
    """Losses of the steps since the last line: means over these steps and all ranks."""

    epoch: int  # at hand, from 1
    step: int  # of the epoch, from 1: the last one of the line
    lr: float  # of that step
    losses: dict[str, float]
    images_per_second: float | None = None  # of all ranks; None where the steps were timed before the run was stopped
    waiting: Waiting | None = None  # where there are several ranks
    time: str | None = field(default=None, compare=False)  # when it was written, UTC: 2026-11-26T21:54:38Z


@dataclass(frozen=True)
class EpochLine:
    """The end of an epoch, and its evaluation."""

    epoch: int  # done, from 1
    metric: str = ""  # empty where the epoch was not evaluated
    score: float | None = None  # None where it is undefined
    beside: dict[str, float | None] = field(default_factory=dict)  # other numbers by name
    validation_loss: float | None = None  # the label loss of what was evaluated
    seconds: float | None = field(default=None, compare=False)  # that the run has taken until then, in all its parts
    time: str | None = field(default=None, compare=False)  # as of a StepLine


Line = StepLine | EpochLine


class Lines(Protocol):
    """Where lines go; used at rank 0 alone."""

    def write(self, line: Line) -> None:
        """Add a line. Raises RunFailed when the disk is full."""
        ...

    def forget_after(self, epochs_done: int, steps_done: int) -> None:
        """Drop the lines on steps after these (epochs, and steps of the next one), which will be done again."""
        ...
