"""How the time of training is told apart, and gradients that are only added up."""

from contextlib import nullcontext

import pytest
import torch
import torch.distributed as dist
from torch import nn

from lshfm.ranks import replicas
from lshfm.ranks.group import Place
from lshfm.ranks.replicas import Clock, alone, replicate
from tests.groups import grouped


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that it is taken to be."""
    time = [50.0]
    monkeypatch.setattr(replicas.time, "perf_counter", lambda: time[0])
    return time


def test_a_clock_knows_when_the_waiting_began(now: list[float]) -> None:
    clock = Clock()
    for _ in range(2):
        now[0] += 3  # its own work
        clock.arrive()
        now[0] += 1  # the others'
        clock.lap()
    now[0] += 100  # an evaluation
    clock.restart()
    now[0] += 2
    clock.arrive()
    clock.lap()
    assert clock.take() == (10, 8)
    assert clock.take() == (0, 0)


def test_one_process_has_no_replica() -> None:
    module = nn.Linear(2, 2)
    assert replicate(module, Clock()) is module
    assert type(alone(module)) is nullcontext


def test_a_replica_tells_the_clock_when_its_last_gradients_are_there(now: list[float]) -> None:
    clock, module = Clock(), nn.Linear(2, 2)
    with grouped(Place(), dist.HashStore()):
        replica = replicate(module, clock)
        with alone(replica):
            replica(torch.ones(1, 2)).sum().backward()
        assert clock.busy == 0
        now[0] += 5
        replica(torch.ones(1, 2)).sum().backward()
        assert clock.busy == 5
        assert module.weight.grad is not None
        assert module.weight.grad.tolist() == [[2, 2]] * 2
