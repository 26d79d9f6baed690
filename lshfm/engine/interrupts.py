"""Delays SIGINT and SIGTERM while a run trains, so that the step at hand is finished and saved first."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn, Self

from lshfm.ranks.group import PeerLost

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SECONDS_APART = 1.0  # a sooner one is a copy of the first, which ranks receive both themselves and from a launcher


class Interrupts:
    """While the block runs, a first signal is only noted, by its number in `asked`, for the loop to act on.

    A second one, or one within `at_once`, is raised, as the handler from before the block raises it: KeyboardInterrupt
    or Terminated. One that still waits when the block ends is raised then, in place of a PeerLost too.
    """

    def __init__(self) -> None:
        self.asked = 0
        self._when = 0.0
        self._waits = True
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            before = {number: signal.getsignal(number) for number in SIGNALS}
            self._before = {number: handler for number, handler in before.items() if callable(handler)}
            for number in self._before:  # one that is ignored stays ignored
                signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self.asked and (kind is None or issubclass(kind, PeerLost)):
            self.stop(self.asked)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Signals are raised as they come, one that is waiting first."""
        self._waits = False
        try:
            if self.asked:
                self.stop(self.asked)
            yield
        finally:
            self._waits = True

    def stop(self, number: int) -> NoReturn:
        """Raise the exception that stands for the signal: KeyboardInterrupt or Terminated."""
        self._before.get(number, signal.default_int_handler)(number, None)
        raise KeyboardInterrupt

    def _note(self, number: int, _frame: FrameType | None) -> None:
        again = self.asked and time.monotonic() - self._when > SECONDS_APART
        if again or not self._waits:
            self.stop(number)
        if not self.asked:
            self.asked, self._when = number, time.monotonic()
            if sys.stderr.isatty():
                os.write(sys.stderr.fileno(), b"\nstopping after this step; once more stops at once\n")
