"""Collective operations of the ranks (gather, broadcast, work at rank 0); a process without a group is rank 0 of 1."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import Store

from lshfm.errors import LshfmError, RunFailed
from lshfm.ranks.waiting import Roll, patiently, spoken_of

T = TypeVar("T")

# A rank may wait long while another decodes a data set. One that has died is noticed by its closed connection, but by
# gloo not if it is killed just as it is sent to: whoever launched the ranks then ends this one.
PATIENCE = timedelta(hours=12)

_places: list["Place"] = []  # this process's place in the group that it is in; empty outside a group
_rolls: list[Roll] = []  # of that group


class PeerLost(RunFailed):
    """Another rank has ended, and its message says why: this rank shows none."""

    shown = True


class Place:
    """Where this process stands among the ranks: `rank` of `num`, and on its machine `local_rank` of `local_num`."""

    def __init__(self, rank: int = 0, num: int = 1, local_rank: int = 0, local_num: int = 1) -> None:
        assert 0 <= rank < num
        assert 0 <= local_rank < local_num <= num
        self.rank, self.num, self.local_rank, self.local_num = rank, num, local_rank, local_num


def place() -> Place:
    """This process's place among the ranks; rank 0 of 1 outside a group."""
    return _places[-1] if _places else Place()


def rank() -> int:
    """This process's number, from 0."""
    return place().rank


def num_ranks() -> int:
    """How many ranks there are."""
    return place().num


def is_main() -> bool:
    """Whether this is rank 0, which writes and speaks for all."""
    return place().rank == 0


def join(here: Place, store: Store, backend: str) -> None:
    """Connect to the other ranks, for whom this waits within torch. here: this process's place among them."""
    roll = Roll(store, here.rank, here.num)
    roll.come()
    with spoken_of(roll.words):
        dist.init_process_group(backend, store=store, rank=here.rank, world_size=here.num, timeout=PATIENCE)


@contextmanager
def process_group(here: Place, store: Store) -> Iterator[None]:
    """The ranks that have joined are a group while the block runs. here: this process's place among them.

    If the block fails at several ranks, the error of the first one alone is left to be shown. An error that comes of
    another rank's end becomes PeerLost. The group is destroyed only after success, as that may wait for other ranks.
    """
    _places.append(here)
    _rolls.append(Roll(store, here.rank, here.num, turn=1))  # joining was the first
    try:
        yield
        all_gather(None)  # the store may live in one of the processes: they leave together
        dist.destroy_process_group()
    except PeerLost:
        raise
    except RuntimeError as error:
        if _is_lost_connection(error):
            raise PeerLost("another rank has ended") from error
        _hush(error, store)
        raise
    except Exception as error:
        _hush(error, store)
        raise
    finally:
        _places.pop()
        _rolls.pop()


@contextmanager
def doing(task: str) -> Iterator[None]:
    """Within the block this rank does `task`, in words for those who wait for it: "decoding train"."""
    with _rolls[-1].doing(task) if num_ranks() > 1 and _rolls else nullcontext():
        yield


def _together(operation: Callable[[], T]) -> T:
    """A collective operation, which waits until every rank has come to it."""
    _rolls[-1].come()
    return patiently(operation, _rolls[-1].words)


def _hush(error: Exception, store: Store) -> None:
    """Mark the error as shown unless this rank is the first to fail."""
    of_all = getattr(error, "of_all", False)
    try:
        first = store.add("failures", 1) == 1
    except RuntimeError:  # the store ended with another rank, which has shown the error that all ranks raise
        first = not of_all
    if not first:
        error.shown = True  # type: ignore[attr-defined]
    elif num_ranks() > 1 and isinstance(error, RunFailed) and not of_all:
        error.args = (f"rank {rank()}: {error}",)


def is_peer_lost(error: BaseException) -> bool:
    """Whether an error is just another rank's end."""
    return isinstance(error, PeerLost) or (isinstance(error, RuntimeError) and _is_lost_connection(error))


def _is_lost_connection(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or re.search(r"\bgloo\b|NCCL", str(error)) is not None


def on_main(work: Callable[[], T], task: str = "") -> T:
    """Do `work` at rank 0 alone. Every rank returns its result, or raises its LshfmError or OSError.

    task: what rank 0 does, in words for those who wait for it.
    """
    if num_ranks() == 1:
        return work()
    with doing(task) if task and is_main() else nullcontext():
        outcome: list[Any] = [_attempt(work) if is_main() else None]
    _together(lambda: dist.broadcast_object_list(outcome, src=0))
    return cast(T, _settled(outcome[0]))


def first_on_each_machine(work: Callable[[], T]) -> T:
    """Do `work` at every rank: first at one rank of each machine, then at the others, which find its files made.

    An LshfmError or OSError of a machine's first rank is raised at every rank.
    """
    if num_ranks() == 1:
        return work()
    is_first = place().local_rank == 0
    outcome = _attempt(work) if is_first else (None, None)
    for _, error in all_gather((None, outcome[1])):
        _settled((None, error))
    return cast(T, outcome[0]) if is_first else work()


def _attempt(work: Callable[[], T]) -> tuple[T | None, Exception | None]:
    try:
        return work(), None
    except (LshfmError, OSError) as error:
        error.of_all = True  # type: ignore[union-attr]
        return None, error


def _settled(outcome: tuple[T | None, Exception | None]) -> T | None:
    result, error = outcome
    if error is not None:
        raise error
    return result


def all_gather(value: T, *, in_step: bool = False) -> list[T]:
    """Every rank's value, in the order of ranks. in_step: it is part of training, where ranks wait in silence."""
    if num_ranks() == 1:
        return [value]
    values: list[Any] = [None] * num_ranks()

    def gather() -> None:
        dist.all_gather_object(values, value)

    gather() if in_step else _together(gather)
    return values


def gather(value: T) -> list[T] | None:
    """Every rank's value at rank 0, in the order of ranks; None elsewhere."""
    if num_ranks() == 1:
        return [value]
    values: list[Any] | None = [None] * num_ranks() if is_main() else None
    _together(lambda: dist.gather_object(value, values, dst=0))
    return values


def require_same(what: str, value: Any) -> None:
    """Raise RunFailed unless every rank has the same plain value."""
    values = all_gather(value)
    other = next((r for r, theirs in enumerate(values) if repr(theirs) != repr(values[0])), None)  # nan is nan
    if other is not None:
        error = RunFailed(
            f"{what}: rank {other} has something else than rank 0. All machines must see the same data, the same "
            "output_dir and checkpoint_dir, and have the same versions installed"
        )
        error.of_all = True
        raise error


def mean(values: Tensor) -> Tensor:
    """Mean over the ranks of a tensor on the CPU."""
    if num_ranks() == 1:
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total / num_ranks()


def broadcast(tensor: Tensor) -> Tensor:
    """Rank 0's tensor, copied in place into every rank's."""
    if num_ranks() > 1:
        dist.broadcast(tensor, src=0)
    return tensor


def share_buffers(module: nn.Module) -> None:
    """Copy rank 0's buffers into every rank's: BatchNorm's running statistics are those of its images."""
    if num_ranks() > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)


class Consensus:
    """The largest number that any rank wishes, known one call later, so that no rank waits for another."""

    def __init__(self) -> None:
        self._asked: tuple[Tensor, Any] | None = None

    def __call__(self, wish: int) -> int:
        """Give this rank's wish; returns the largest of the call before, or with a single rank this wish itself."""
        if num_ranks() == 1:
            return wish
        agreed = 0
        if self._asked:
            tensor, work = self._asked
            work.wait()
            agreed = int(tensor)
        tensor = torch.tensor(wish)
        self._asked = tensor, dist.all_reduce(tensor, op=dist.ReduceOp.MAX, async_op=True)
        return agreed
