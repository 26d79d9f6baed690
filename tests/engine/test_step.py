"""One eager step, counted by hand."""

import pytest
import torch
from torch import Tensor, nn

from lshfm.datasets.loader import Batch
from lshfm.engine.assemble import assemble
from lshfm.engine.state import State
from lshfm.engine.step import EagerStep

BATCH = Batch(torch.arange(4), torch.tensor([[1.0], [2.0], [3.0], [6.0]]), torch.zeros(4, 1), epoch=0)


class Linear(nn.Module):
    """Two losses of one weight w: the mean of w * x, and w itself."""

    def __init__(self) -> None:
        super().__init__()
        self.model = self.trained = nn.Linear(1, 1, bias=False)
        nn.init.constant_(self.model.weight, 0.5)
        self.sizes: list[int] = []

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        self.sizes.append(len(batch.images))
        return {"mean": self.trained(batch.images).mean(), "weight": self.model.weight.sum()}


def made() -> tuple[Linear, State]:
    objective = Linear()
    return objective, assemble(objective, optimizer="sgd", momentum=0.0, weight_decay=0.0)


@pytest.mark.parametrize(("accumulate", "sizes"), [(1, [4]), (2, [2, 2]), (4, [1, 1, 1, 1])])
def test_losses_and_weight_by_hand(accumulate: int, sizes: list[int]) -> None:
    objective, state = made()
    losses = EagerStep(state, accumulate=accumulate)(BATCH, 0.125)
    assert {name: loss.item() for name, loss in losses.items()} == {"mean": 1.5, "weight": 0.5}
    assert objective.model.weight.item() == 0.5 - 0.125 * (3 + 1)
    assert (objective.sizes, state.step) == (sizes, 1)


def test_losses_are_detached_and_outlive_the_next_step() -> None:
    _, state = made()
    step = EagerStep(state)
    first, second = step(BATCH, 0.125), step(BATCH, 0.0)
    assert not any(loss.requires_grad for loss in (*first.values(), *second.values()))
    assert [losses["mean"].item() for losses in (first, second)] == [1.5, 0.0]


def test_gradients_do_not_add_up_over_steps() -> None:
    objective, state = made()
    for _ in range(2):
        EagerStep(state)(BATCH, 0.125)
    assert objective.model.weight.item() == 0.5 - 2 * 0.125 * 4


@pytest.mark.parametrize(("clip_grad", "slope"), [(1.0, 1.0), (3.5, 3.5), (4.5, 4.0), (None, 4.0)])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_whole_batchs_gradient_is_clipped(clip_grad: float | None, slope: float, accumulate: int) -> None:
    """Its only entry is 4; that of a part of the batch would be another one."""
    objective, state = made()
    EagerStep(state, accumulate=accumulate, clip_grad=clip_grad)(BATCH, 0.125)
    assert objective.model.weight.item() == pytest.approx(0.5 - 0.125 * slope, abs=1e-5)


def test_clipping_is_torchs_over_all_that_learns() -> None:
    ours, theirs = nn.Linear(3, 2), nn.Linear(3, 2)
    theirs.load_state_dict(ours.state_dict())
    ours.bias.requires_grad = False
    objective = Linear()
    objective.model = objective.trained = ours
    state = assemble(objective, optimizer="sgd", momentum=0.0, weight_decay=0.0)
    assert [parameter.shape for parameter in state.learning()] == [(2, 3)]
    batch = Batch(torch.arange(4), torch.arange(12.0).view(4, 3), torch.zeros(4, 1), epoch=0)
    EagerStep(state, clip_grad=0.25)(batch, 1.0)
    (theirs(batch.images).mean() + theirs.weight.sum()).backward()
    theirs.bias.grad = None
    nn.utils.clip_grad_norm_(theirs.parameters(), 0.25)
    assert theirs.weight.grad is not None
    assert torch.equal(ours.weight, theirs.weight - theirs.weight.grad)
