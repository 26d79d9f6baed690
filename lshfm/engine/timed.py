"""Counts the seconds of training and of evaluation apart."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Timed:
    """`seconds` of training and `evaluation_seconds`, counted from `start_clock` on."""

    def __init__(self) -> None:
        self.seconds = 0.0  # of training
        self.evaluation_seconds = 0.0
        self._counted_until = time.monotonic()

    def start_clock(self) -> None:
        """Count seconds from here on."""
        self._counted_until = time.monotonic()

    def count_seconds(self) -> None:
        """Count the time since the last count as training."""
        self.seconds += self._passed()

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Count the time of the block as evaluation, and what came before it as training."""
        self.count_seconds()
        try:
            yield
        finally:
            self.evaluation_seconds += self._passed()

    def _passed(self) -> float:
        before, self._counted_until = self._counted_until, time.monotonic()
        return self._counted_until - before
