"""Waits for other ranks: whoever waits long says for whom and why, and signals are handled meanwhile."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TypeVar

from torch._C._distributed_c10d import Store

from lshfm.console import speak

T = TypeVar("T")

SECONDS = 10.0  # of waiting, after which a rank speaks
MOST_NAMED = 4  # ranks in a message


@contextmanager
def spoken_of(words: Callable[[], str]) -> Iterator[None]:
    """If the block takes long, say `words()` once. A thread does, for torch does not come back from a wait."""
    timer = threading.Timer(SECONDS, lambda: speak(words()))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def patiently(wait: Callable[[], T], words: Callable[[], str]) -> T:
    """What `wait()` returns, which waits within torch; in a thread, so that this one handles signals as they come.

    One whose handler raises ends the wait; the thread is then left behind. words: what to say if it takes long.
    """
    done: Future[T] = Future()
    threading.Thread(target=_settle, args=(done, wait), daemon=True).start()
    try:
        return done.result(SECONDS)
    except TimeoutError:
        if done.done():
            raise
    speak(words())
    return done.result()


def _settle(done: "Future[T]", wait: Callable[[], T]) -> None:
    try:
        done.set_result(wait())
    except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
        done.set_exception(error)


class Roll:
    """Which ranks have come to the collective operation at hand, and what the others do; kept in the ranks' store.

    turn: operations that all ranks have done.
    """

    def __init__(self, store: Store, rank: int, num: int, turn: int = 0) -> None:
        self.store, self.rank, self.num, self.turn = store, rank, num, turn
        self.task = ""

    def come(self) -> None:
        """This rank has come to the next operation."""
        self.turn += 1
        self.store.set(f"turn/{self.rank}", str(self.turn))

    @contextmanager
    def doing(self, task: str) -> Iterator[None]:
        """Within the block this rank does `task`, "decoding train"."""
        before, self.task = self.task, task
        self.store.set(f"task/{self.rank}", task)
        try:
            yield
        finally:
            self.task = before
        self.store.set(f"task/{self.rank}", before)

    def words(self) -> str:
        """For whom this rank waits, and why."""
        try:
            others = [self._about(rank) for rank in range(self.num) if self._turn(rank) < self.turn]
        except RuntimeError:  # the store ended with another rank
            others = []
        more = f" and {len(others) - MOST_NAMED} more" if len(others) > MOST_NAMED else ""
        whom = ", ".join(others[:MOST_NAMED]) + more if others else "what the other ranks send"
        return f"rank {self.rank} has been waiting for {SECONDS:.0f} s for {whom}"

    def _turn(self, rank: int) -> int:
        return int(self._kept(f"turn/{rank}") or 0)

    def _about(self, rank: int) -> str:
        if not self._turn(rank):
            return f"rank {rank} (has not joined)"
        task = self._kept(f"task/{rank}")
        return f"rank {rank} ({task})" if task else f"rank {rank}"

    def _kept(self, key: str) -> str:
        """A value in the store; "" where there is none, for which `get` alone would wait."""
        return self.store.get(key).decode() if self.store.check([key]) else ""
