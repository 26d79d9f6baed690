"""How far a job's runs are, from the lines that they record."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lshfm.engine.lines import EpochLine, StepLine
from lshfm.runs.tail import Tail


@dataclass
class Progress:
    """What is known of a job that runs: epochs of all its runs together, losses, the best score of its last run."""

    folders: Sequence[Path]
    epochs: Sequence[int]
    losses: dict[str, float] = field(default_factory=dict)
    metric: str | None = None
    best: float | None = None
    started: float = field(default_factory=time.monotonic)
    _done: list[int] = field(init=False)
    _first: int | None = None  # epochs done when it started

    def __post_init__(self) -> None:
        self._tails = [Tail(folder / "metrics.jsonl") for folder in self.folders]
        self._done = [0] * len(self.folders)
        self._told: dict[int, EpochLine] = {}
        list(self.read())  # what an earlier call has done

    def read(self) -> Iterator[EpochLine]:
        """Take in what was recorded since the last call; the new ends of epochs of the last run, each once."""
        for number, tail in enumerate(self._tails):
            for line in tail.lines():
                if isinstance(line, StepLine):
                    self.losses = line.losses
                    continue
                self._done[number] = line.epoch
                if number == len(self._tails) - 1:
                    self._count(line)
                    if self._told.get(line.epoch) != line:  # a run that goes on writes its file anew
                        self._told[line.epoch] = line
                        yield line
        if self._first is None:
            self._first = self.done

    def _count(self, line: EpochLine) -> None:
        self.metric = line.metric or self.metric
        if line.score is not None:
            self.best = line.score if self.best is None else max(self.best, line.score)

    @property
    def done(self) -> int:
        """Epochs done, of all runs."""
        return sum(self._done)

    @property
    def total(self) -> int:
        """Epochs of all runs."""
        return sum(self.epochs)

    def seconds_to_go(self) -> float | None:
        """Estimated from the epochs done since the job has started; None before the first one."""
        here = self.done - (self._first or 0)
        return (self.total - self.done) * (time.monotonic() - self.started) / here if here > 0 else None
