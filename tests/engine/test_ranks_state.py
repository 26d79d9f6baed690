"""What the ranks hold in common while they train, and what of it is saved and taken up again, by as many or others."""

import io
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lshfm.engine.assemble import assemble
from lshfm.engine.state import State
from lshfm.losses.classification import BCE
from lshfm.objectives.supervised import Supervised
from lshfm.ranks.group import all_gather, rank
from tests.engine.test_ranks_train import (
    BATCH,
    CLASSES,
    EPOCHS,
    FROZEN,
    OBJECTIVES,
    STEPS,
    Data,
    Notes,
    assert_close,
    assert_same,
    make,
    run,
    train,
)
from tests.groups import in_ranks


def _built(kind: str) -> tuple[list[str], dict[str, Tensor]]:
    state = make(kind, seed=rank())
    wrapped = [n for n, m in state.objective.named_modules() if isinstance(m, DistributedDataParallel)]  # type: ignore[attr-defined]
    return wrapped, dict(state.model.state_dict())


@pytest.mark.slow
@pytest.mark.parametrize("kind", OBJECTIVES)
def test_the_trained_network_alone_is_wrapped_and_starts_as_rank_0s(kind: str) -> None:
    start = make(kind, seed=0).model.state_dict()
    for wrapped, weights in in_ranks(2, _built, kind):
        assert wrapped == ["trained"]
        assert_same(weights, dict(start))


def _buffers(ema: float) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Before and after the ranks share them, having trained a little."""
    state = make("supervised", ema=ema)
    state.begin_epoch()
    for batch in Data().epoch(0):
        with state.gradients(last=True):
            state.objective(batch)["asl"].backward()
        state.update(0.1)
    before = {name: buffer.clone() for name, buffer in state.model.named_buffers()}
    state.synchronise()
    return before, dict(state.model.named_buffers())


@pytest.mark.slow
@pytest.mark.parametrize("ema", [0.0, 0.8])
def test_running_statistics_are_rank_0s_once_they_are_synchronised(ema: float) -> None:
    (before, after), (others_before, others_after) = in_ranks(2, _buffers, ema)
    assert_same(after, before)
    assert_same(others_after, before)
    assert not torch.equal(before["backbone.bn1.running_mean"], others_before["backbone.bn1.running_mean"])


@pytest.mark.slow
def test_the_moving_average_of_two_ranks() -> None:
    first, second = in_ranks(2, partial(train, "supervised", ema=0.8))
    assert_close(first, train("supervised", ema=0.8, group_size=BATCH // 2))
    assert_same(first[1], second[1])


class Dropping(nn.Module):
    """Half of the colours of an image are left out, other ones in every rank."""

    num_features = 3

    def __init__(self) -> None:
        super().__init__()
        self.dropout, self.classifier = nn.Dropout(0.5), nn.Linear(3, CLASSES)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        feature = self.dropout(images.mean((2, 3)) + 1)
        return feature, self.classifier(feature)


def dropping(seed: int) -> State:
    """Its first epoch is with a held backbone, so that the wrapper of the second one is another."""
    torch.manual_seed(seed)
    objective = Supervised(Dropping(), BCE(), "bce")
    state = assemble(objective, optimizer="adamw", momentum=0.9, weight_decay=0.01, freeze_epochs=1)
    torch.manual_seed(10 * seed + rank())
    return state


class Stopped(Exception):
    """What ends a training in the middle."""


Trained = tuple[list[dict[str, float]], dict[str, Any]]


def _trained(state: State) -> Trained:
    notes = Notes(own=True)
    run(state, notes)
    return notes.losses, dict(state.model.state_dict())


def _undisturbed() -> Trained:
    return _trained(dropping(1))


def _stopped(state: State, stop: tuple[int, int]) -> bytes:
    """What is saved when the state has come so far, in epochs and steps."""
    saved = io.BytesIO()

    def look(state: State, *_: Any) -> None:
        if (state.epoch, state.step) == stop:
            state.synchronise()
            torch.save(state.state_dict(), saved)
            raise Stopped

    with pytest.raises(Stopped):
        run(state, Notes(), pause=look, save=look)
    return all_gather(saved.getvalue())[0]


def _dropping_until(stop: tuple[int, int]) -> bytes:
    return _stopped(dropping(1), stop)


def loaded(state: State, saved: bytes) -> State:
    state.load_state_dict(torch.load(io.BytesIO(saved), weights_only=True))
    return state


def _goes_on(saved: bytes) -> Trained:
    return _trained(loaded(dropping(2), saved))


@pytest.mark.parametrize("stop", [pytest.param(each, marks=pytest.mark.slow) for each in [(0, 1), (1, 0), (1, 1)]])
def test_two_ranks_go_on_to_the_bit_each_with_its_own_random_numbers(stop: tuple[int, int]) -> None:
    whole = in_ranks(2, _undisturbed)
    saved, _ = in_ranks(2, _dropping_until, stop)
    done = stop[0] * STEPS + stop[1]
    for (losses, weights), (rest, end) in zip(whole, in_ranks(2, _goes_on, saved), strict=True):
        assert rest == losses[done:]
        assert_same(end, weights)
    assert whole[0][0] != whole[1][0]


def _random_numbers(saved: bytes) -> tuple[Tensor, Tensor]:
    state = dropping(2)
    before = torch.get_rng_state()
    loaded(state, saved)
    return before, torch.get_rng_state()


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_random_numbers_with_another_number_of_ranks(ranks: int) -> None:
    saved, _ = in_ranks(2, _dropping_until, (1, 0))
    kept = [entry["cpu"] for entry in torch.load(io.BytesIO(saved))["random"]]
    assert not torch.equal(*kept)
    for r, (before, after) in enumerate(in_ranks(ranks, _random_numbers, saved)):
        assert torch.equal(after, kept[r] if r < 2 else before)


def _until(stop: tuple[int, int]) -> bytes:
    return _stopped(make("mimic", FROZEN, ema=0.8, freeze_epochs=1), stop)


def _on_from(saved: bytes) -> Trained:
    state, notes = loaded(make("mimic", FROZEN, ema=0.8, freeze_epochs=1), saved), Notes()
    run(state, notes)
    return notes.losses, dict(state.model.state_dict())


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 4)])
def test_another_number_of_ranks_goes_on_from_there(before: int, after: int) -> None:
    losses, weights = train("mimic", FROZEN, ema=0.8, freeze_epochs=1)
    saved = in_ranks(before, _until, (1, 1))[0]
    for rest, end in in_ranks(after, _on_from, saved):
        assert_close((losses[: STEPS + 1] + rest, end), (losses, weights))
        assert len(rest) == EPOCHS * STEPS - STEPS - 1
