"""Batches made one ahead of their turn."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import torch

from lshfm.datasets.overlap import in_advance


class Notes:
    """A side that notes what it is asked."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def do(self, work: Callable[[], Any]) -> tuple[Any, Any]:
        made = work()
        self.events.append(f"made {made.name if made else 'none'}")
        return made, made and made.name

    def hand_over(self, done: Any, tensors: list[torch.Tensor]) -> None:
        assert [tensor.item() for tensor in tensors] == [done, 10 * done]
        self.events.append(f"handed over {done}")

    def mark(self) -> str:
        return self.events[-1]  # the work on a batch

    def wait(self, mark: str) -> None:
        self.events.append(f"waited until {mark}")


def batches(count: int) -> Iterator[Any]:
    for name in range(1, count + 1):
        yield SimpleNamespace(name=name, columns={"images": torch.tensor(name), "labels": torch.tensor(10 * name)})


def test_each_batch_is_made_before_the_one_ahead_of_it_is_used() -> None:
    side = Notes()
    for batch in in_advance(batches(3), side):
        side.events.append(f"used {batch.name}")
    assert side.events == [
        "made 1", "made 2", "handed over 1", "used 1", "made 3", "handed over 2", "used 2",
        "waited until used 1", "made none", "handed over 3", "used 3",
    ]  # fmt: skip


def test_the_host_is_at_most_two_steps_ahead_of_the_device() -> None:
    """Batches that wait for their step take memory, and a recorded step is queued in no time."""
    side = Notes()
    for batch in in_advance(batches(5), side):
        side.events.append(f"used {batch.name}")
    waits = [number for number, event in enumerate(side.events) if event.startswith("waited")]
    assert [side.events[number] for number in waits] == [f"waited until used {name}" for name in (1, 2, 3)]
    assert [side.events[number + 1] for number in waits] == ["made 4", "made 5", "made none"]


def test_an_epoch_may_be_empty_and_be_left() -> None:
    assert list(in_advance(batches(0), Notes())) == []
    assert next(in_advance(batches(2), Notes())).name == 1


def test_without_a_side_batches_come_as_they_are_asked_for() -> None:
    made: list[int] = []

    def noted() -> Iterator[Any]:
        for batch in batches(2):
            made.append(batch.name)
            yield batch

    assert next(in_advance(noted(), None)).name == 1
    assert made == [1]
