"""Batches that are sent and augmented while the device works on the one before."""

from collections import deque
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

QUEUED = 2  # batches whose work may still be to do when another one is made


class Side(Protocol):
    """A queue of work beside the one that trains."""

    def do(self, work: Callable[[], T]) -> tuple[T, Any]:
        """Queue what `work` does there; its result, and what tells when it is done."""
        ...

    def hand_over(self, done: Any, tensors: list[Tensor]) -> None:
        """Let the queue that trains wait until it is done; the tensors are then its own."""
        ...

    def mark(self) -> Any:
        """What tells when the queue that trains has done all that is in it now."""
        ...

    def wait(self, mark: Any) -> None:
        """Wait for a mark, on the host."""
        ...


class SideStream:
    """A CUDA stream."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)

    def do(self, work: Callable[[], T]) -> tuple[T, Any]:
        """The host does not wait."""
        with torch.cuda.stream(self._stream):
            return work(), self._stream.record_event()

    def hand_over(self, done: Any, tensors: list[Tensor]) -> None:
        """Nor does it here."""
        current = torch.cuda.current_stream(self._stream.device)
        current.wait_event(done)
        for tensor in tensors:
            tensor.record_stream(current)  # its memory is free only when that stream has used it

    def mark(self) -> Any:
        """An event, in waiting for which the host leaves the processor to others."""
        event = torch.cuda.Event(blocking=True)
        event.record(torch.cuda.current_stream(self._stream.device))
        return event

    def wait(self, mark: Any) -> None:
        """The device has the work on a later batch to do meanwhile."""
        mark.synchronize()


@lru_cache
def side_of(device: torch.device) -> Side | None:
    """The device's one side stream, as memory is kept by stream; None for a CPU."""
    return SideStream(device) if device.type == "cuda" else None


def in_advance(batches: Iterator[Any], side: Side | None) -> Iterator[Any]:
    """The batches, each made one ahead of its turn, in the queue beside; as they come where there is none.

    Their `columns` are tensors by name. The host, which queues a recorded step in no time, gets no further ahead of the
    device than QUEUED batches: each takes memory until its step is done.
    """
    if side is None:
        yield from batches
        return
    marks: deque[Any] = deque()
    ahead: tuple[Any, Any] = side.do(lambda: next(batches, None))
    while ahead[0] is not None:
        batch, done = ahead
        if len(marks) == QUEUED:
            side.wait(marks.popleft())
        ahead = side.do(lambda: next(batches, None))
        side.hand_over(done, [each for each in batch.columns.values() if each is not None])
        yield batch
        marks.append(side.mark())
