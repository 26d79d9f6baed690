"""What ranks ask and do together, and what each of them is told when one of them fails."""

import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

from lshfm.errors import InputError, RunFailed
from lshfm.ranks import group
from lshfm.ranks.group import (
    Consensus,
    PeerLost,
    Place,
    all_gather,
    first_on_each_machine,
    on_main,
    rank,
)
from tests.groups import Died, ends_of, grouped, in_ranks


def told(ends: list[Any]) -> list[tuple[type, str]]:
    """The errors that ended the ranks."""
    return [(type(end), str(end)) for end in ends]


def unshown(ends: list[Any]) -> list[int]:
    """The ranks whose error a user is still to be shown."""
    return [r for r, end in enumerate(ends) if not getattr(end, "shown", False)]


class TestAlone:
    def test_one_process_is_rank_0_of_1(self) -> None:
        place = group.place()
        assert (place.rank, place.num, place.local_rank, place.local_num) == (0, 1, 0, 1)
        assert (group.rank(), group.num_ranks(), group.is_main()) == (0, 1, True)

    def test_what_ranks_do_together_it_does_alone(self) -> None:
        values = torch.tensor([1.0, 2.0])
        norm = nn.BatchNorm1d(2)
        assert (on_main(lambda: 3), first_on_each_machine(lambda: 4)) == (3, 4)
        assert (all_gather("a"), group.gather("b")) == (["a"], ["b"])
        assert group.mean(values) is group.broadcast(values) is values
        group.require_same("it", 5)
        group.share_buffers(norm)
        assert norm.running_mean is not None
        assert norm.running_mean.tolist() == [0, 0]

    def test_its_own_wish_is_known_at_once(self) -> None:
        consensus = Consensus()
        assert [consensus(wish) for wish in (0, 1, 15, 0)] == [0, 1, 15, 0]

    def test_errors_are_raised_as_they_are(self) -> None:
        for do in (on_main, first_on_each_machine):
            with pytest.raises(ValueError, match="mine") as caught:
                do(fail_with(ValueError("mine")))
            assert not hasattr(caught.value, "shown")


def fail_with(error: Exception) -> Any:
    def work() -> None:
        raise error

    return work


def _where() -> tuple[int, ...]:
    place = group.place()
    return place.rank, place.num, place.local_rank, place.local_num, group.num_ranks(), group.is_main()


def test_every_rank_knows_its_place() -> None:
    assert ends_of(4, _where, machines=2) == [
        (0, 4, 0, 2, 4, True),
        (1, 4, 1, 2, 4, False),
        (2, 4, 0, 2, 4, False),
        (3, 4, 1, 2, 4, False),
    ]


def test_a_group_is_left_and_another_one_entered() -> None:
    for _ in range(2):
        with grouped(Place(0, 1, 0, 1), dist.HashStore()):
            assert dist.is_initialized()
        assert not dist.is_initialized()
        assert group._places == []


def _at_main() -> tuple[Any, ...]:
    here: list[int] = []
    result = on_main(lambda: (here.append(rank()), {"from": rank()})[1])
    return result, here, all_gather(rank() * 11), group.gather(-rank())


def test_work_at_rank_0_is_everyones() -> None:
    all_of_them = [0, 11, 22]
    assert in_ranks(3, _at_main) == [
        ({"from": 0}, [0], all_of_them, [0, -1, -2]),
        ({"from": 0}, [], all_of_them, None),
        ({"from": 0}, [], all_of_them, None),
    ]


ERRORS = {
    "input": InputError("lr: is wrong"),
    "run": RunFailed("the disk is full"),
    "os": OSError(13, "Permission denied", "some/file"),
}


def _fail_at_main(name: str) -> None:
    on_main(fail_with(ERRORS[name]))


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_of_rank_0_ends_every_rank_and_is_shown_once(name: str) -> None:
    ends = ends_of(3, _fail_at_main, name)
    assert told(ends) == [(type(ERRORS[name]), str(ERRORS[name]))] * 3
    assert len(unshown(ends)) == 1


def _fault_at_main() -> None:
    on_main(fail_with(ValueError("a fault of ours")))


def test_a_fault_of_rank_0_is_not_the_others() -> None:
    ends = ends_of(3, _fault_at_main)
    assert [type(end) for end in ends] == [ValueError, PeerLost, PeerLost]
    assert unshown(ends) == [0]


def _build(folder: Path) -> tuple[str, bool]:
    path = folder / f"machine_{rank() // 2}"

    def work() -> tuple[str, bool]:
        is_there = path.exists()
        path.touch()
        return path.name, is_there

    return first_on_each_machine(work)


def test_one_rank_of_each_machine_goes_first(tmp_path: Path) -> None:
    assert ends_of(4, _build, tmp_path, machines=2) == [
        ("machine_0", False),
        ("machine_0", True),
        ("machine_1", False),
        ("machine_1", True),
    ]


def _fail_on_a_machine(culprit: int) -> int:
    return first_on_each_machine(fail_with(InputError("no room here")) if rank() == culprit else rank)


@pytest.mark.parametrize("culprit", [0, 2])
def test_an_error_of_a_machines_first_rank_is_everyones(culprit: int) -> None:
    ends = ends_of(4, _fail_on_a_machine, culprit, machines=2)
    assert told(ends) == [(InputError, "no room here")] * 4
    assert len(unshown(ends)) == 1


def test_an_error_of_another_rank_is_its_own() -> None:
    ends = ends_of(4, _fail_on_a_machine, 1, machines=2)
    assert told(ends)[1] == (InputError, "no room here")
    assert [type(end) for end in ends] == [PeerLost, InputError, PeerLost, PeerLost]
    assert unshown(ends) == [1]


def _require(values: list[Any]) -> None:
    group.require_same("the data", values[rank()])


def test_what_must_be_the_same() -> None:
    assert in_ranks(2, _require, [{"a": math.nan}] * 2) == [None, None]
    ends = ends_of(3, _require, [[1], [1], [2]])
    assert {str(end).partition(".")[0] for end in ends} == {"the data: rank 2 has something else than rank 0"}
    assert {type(end) for end in ends} == {RunFailed}
    assert len(unshown(ends)) == 1


def _average() -> tuple[torch.Tensor, torch.Tensor]:
    own = torch.tensor([[1.0, 2.0], [0.5, -4.0]]) * (rank() + 1)
    return own, group.mean(own)


def test_the_mean_leaves_a_ranks_own_values_alone() -> None:
    factors = [1, 2, 3]
    values = torch.tensor([[1.0, 2.0], [0.5, -4.0]])
    for factor, (own, mean) in zip(factors, in_ranks(3, _average), strict=True):
        assert torch.equal(own, values * factor)
        assert torch.equal(mean, values * 2)


def _from_main() -> tuple[torch.Tensor, bool]:
    own = torch.full((3,), float(rank()) + 1)
    return own, group.broadcast(own) is own


def test_a_tensor_of_rank_0_is_copied_into_every_ranks() -> None:
    assert all(is_in_place and own.tolist() == [1, 1, 1] for own, is_in_place in in_ranks(2, _from_main))


def _shared_buffers() -> dict[str, torch.Tensor]:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.fill_(rank() + 1)
    group.share_buffers(network)
    return dict(network.state_dict())


def test_buffers_become_rank_0s_and_parameters_stay() -> None:
    for own, state in enumerate(in_ranks(2, _shared_buffers), start=1):
        assert {n: t.unique().tolist() for n, t in state.items() if t.numel() and "running" in n} == {
            "1.running_mean": [1],
            "1.running_var": [1],
        }
        assert state["1.num_batches_tracked"] == 1
        assert state["0.weight"].unique().tolist() == state["1.bias"].unique().tolist() == [own]


WISHES = [(0, 0, 0), (0, 1, 0), (0, 0, 0), (15, 0, 2), (0, 0, 0), (0, 0, 0)]  # of three ranks, call after call


def _agree() -> list[int]:
    consensus = Consensus()
    return [consensus(wishes[rank()]) for wishes in WISHES]


def test_the_largest_wish_is_known_to_all_at_the_next_call() -> None:
    assert in_ranks(3, _agree) == [[0, 0, 1, 0, 15, 0]] * 3


def _fail_everywhere() -> None:
    dist.barrier()
    raise RunFailed("full")


def test_only_the_first_error_is_to_be_shown_and_names_its_rank() -> None:
    ends = ends_of(3, _fail_everywhere)
    (first,) = unshown(ends)
    assert told(ends) == [(RunFailed, f"rank {first}: full" if r == first else "full") for r in range(3)]


def _die_in_the_middle(victim: int) -> None:
    all_gather(1)
    if rank() == victim:
        os.kill(os.getpid(), signal.SIGKILL)
    all_gather(2)


@pytest.mark.parametrize("victim", [0, 1])
def test_a_rank_that_dies_is_noticed(victim: int) -> None:
    ends = ends_of(2, _die_in_the_middle, victim)
    assert type(ends[victim]) is Died
    assert type(ends[1 - victim]) is PeerLost
    assert ends[1 - victim].shown


def _leave_early() -> int:
    if rank() == 1:
        raise InputError("not here")
    return 1  # done with everything, but for waiting for the others


def test_a_rank_that_is_done_hears_of_anothers_failure() -> None:
    ends = ends_of(2, _leave_early)
    assert [type(end) for end in ends] == [PeerLost, InputError]
    assert unshown(ends) == [1]


def _fault() -> None:
    if rank() == 0:
        raise RuntimeError("shapes do not fit")
    all_gather(1)


def test_a_fault_is_not_taken_for_a_lost_rank() -> None:
    ends = ends_of(2, _fault)
    assert told(ends)[0] == (RuntimeError, "shapes do not fit")
    assert type(ends[1]) is PeerLost
    assert unshown(ends) == [0]
