"""Training in several ranks: what one process with the whole batch would do."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lshfm.datasets.loader import Batch
from lshfm.engine.assemble import assemble
from lshfm.engine.loop import fit
from lshfm.engine.schedule import learning_rate
from lshfm.engine.state import Evaluation, State
from lshfm.engine.step import EagerStep
from lshfm.losses.classification import ASL, BCE
from lshfm.losses.features import L2
from lshfm.losses.logits import SigmoidKL
from lshfm.losses.lsh import LSH, HashFunctions, draw_weights
from lshfm.models.batch_norm import set_statistics
from lshfm.models.cifar import cifar_classifier
from lshfm.objectives.align import Align
from lshfm.objectives.learner import Learner
from lshfm.objectives.mimic import Mimic
from lshfm.objectives.supervised import Supervised
from lshfm.objectives.teacher import Teacher
from lshfm.objectives.terms import Term, Terms
from lshfm.ranks import group
from lshfm.ranks.group import num_ranks, rank
from tests.groups import in_ranks

BATCH, STEPS, EPOCHS, CLASSES, WIDTH = 8, 2, 2, 3, 64
FROZEN = ("bn_stats",)


class Data:
    """A fixed set, in batches of which each rank has its part."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randn(BATCH * STEPS, 3, 16, 16, generator=generator)
        self.labels = torch.randint(-1, 2, (BATCH * STEPS, CLASSES), generator=generator).to(torch.int8)

    def __len__(self) -> int:
        return STEPS

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        order = torch.randperm(BATCH * STEPS, generator=torch.Generator().manual_seed(epoch)).split(BATCH)
        whole = (Batch(index, self.images[index], self.labels[index], epoch) for index in order[start:])
        return (batch.split(num_ranks())[rank()] for batch in whole)


@dataclass
class Notes:
    """A journal that keeps the losses of every step: means over the ranks, or this rank's own."""

    own: bool = False
    losses: list[dict[str, float]] = field(default_factory=list)

    def step(self, state: State, index: Tensor, losses: dict[str, Tensor], lr: float) -> None:
        taken = {name: loss if self.own else group.mean(loss) for name, loss in losses.items()}
        self.losses.append({name: float(loss) for name, loss in taken.items()})

    def flush(self, state: State) -> None: ...

    def epoch(self, state: State, evaluation: Evaluation) -> None: ...


def network(*, group_size: int | None = None, shared: bool = False, **design: Any) -> nn.Module:
    """As trained for a while: its running statistics are no longer what they start at."""
    model = cifar_classifier("resnet8", CLASSES, **design)
    model.train()(torch.randn(16, 3, 16, 16) * 2 + 1)
    return set_statistics(model, group_size=group_size, shared=shared, device=torch.device("cpu"))


def teacher() -> Teacher:
    return Teacher(network())


def feature_terms() -> Terms:
    """Of both kinds: the paper's, and one whose gradient never vanishes."""
    functions = HashFunctions(draw_weights(24, WIDTH, 0.3, 0), torch.linspace(-0.1, 0.1, 24), 0.3, 0, "median")
    return Terms([Term("l2", 3.0, L2()), Term("lsh", 1.0, LSH(functions))])


def supervised(freeze: tuple[str, ...], **statistics: Any) -> Learner:
    return Supervised(network(**statistics), ASL(), "asl", freeze=freeze)


def align(freeze: tuple[str, ...], **statistics: Any) -> Learner:
    return Align(network(projection=WIDTH, **statistics), teacher(), feature_terms(), freeze=freeze)


def mimic(freeze: tuple[str, ...], **statistics: Any) -> Learner:
    return Mimic(
        network(projection=WIDTH, **statistics), teacher(), label_loss=BCE(), label_name="bce", gamma=0.5,
        feature_terms=feature_terms(), logit_terms=Terms([Term("kl", 0.5, SigmoidKL())]), freeze=freeze,
    )  # fmt: skip


OBJECTIVES: dict[str, Callable[..., Learner]] = {"supervised": supervised, "align": align, "mimic": mimic}


def make(
    kind: str, freeze: tuple[str, ...] = (), *, ema: float = 0.0, seed: int = 0, freeze_epochs: int = 0,
    **statistics: Any,
) -> State:  # fmt: skip
    torch.manual_seed(seed)
    objective = OBJECTIVES[kind](freeze, **statistics)
    return assemble(objective, optimizer="sgd", momentum=0.9, weight_decay=0.01, ema=ema, freeze_epochs=freeze_epochs)


def run(
    state: State, notes: Notes, *, accumulate: int = 1, clip_grad: float | None = None, pause: Any = None,
    save: Any = None,
) -> None:  # fmt: skip
    """Train from where `state` is to the end."""
    fit(
        state, EagerStep(state, accumulate=accumulate, clip_grad=clip_grad), Data(), learning_rate(0.05), notes,
        epochs=EPOCHS,
        pause=pause or (lambda _: None), save=save or (lambda *_: None),
        evaluate=lambda _: Evaluation("none", None, {}),
    )  # fmt: skip


def train(
    kind: str,
    freeze: tuple[str, ...] = (),
    *,
    accumulate: int = 1,
    clip_grad: float | None = None,
    ema: float = 0.0,
    **statistics: Any,
) -> tuple[list[dict[str, float]], dict[str, Tensor]]:
    """The losses of every step and the weights at the end."""
    state, notes = make(kind, freeze, ema=ema, **statistics), Notes()
    run(state, notes, accumulate=accumulate, clip_grad=clip_grad)
    return notes.losses, {name: tensor.clone() for name, tensor in state.model.state_dict().items()}


def assert_close(ours: tuple[Any, Any], theirs: tuple[Any, Any]) -> None:
    (losses, weights), (other_losses, other_weights) = ours, theirs
    assert len(losses) == EPOCHS * STEPS
    for own, other in zip(losses, other_losses, strict=True):
        assert own == pytest.approx(other, abs=1e-5)
    assert weights.keys() == other_weights.keys()
    for name in weights:
        torch.testing.assert_close(weights[name], other_weights[name], atol=1e-5, rtol=1e-5)


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("accumulate", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", OBJECTIVES)
def test_two_ranks_are_one_with_the_whole_batch(kind: str, accumulate: int) -> None:
    work = partial(train, kind, FROZEN, accumulate=accumulate)
    alone = work()
    first, second = in_ranks(2, work)
    assert_close(first, alone)
    assert first[0] == second[0]
    assert_same(first[1], second[1])
    assert alone[0][0] != pytest.approx(alone[0][-1], abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", OBJECTIVES)
def test_batch_norm_of_two_ranks_is_that_of_two_groups(kind: str) -> None:
    """Running statistics too: rank 0's are kept, as the first group's are."""
    first, second = in_ranks(2, partial(train, kind))
    assert_close(first, train(kind, group_size=BATCH // 2))
    assert_same(first[1], second[1])


@pytest.mark.slow
@pytest.mark.parametrize("kind", OBJECTIVES)
def test_shared_batch_norm_is_that_of_the_whole_batch(kind: str) -> None:
    first, second = in_ranks(2, partial(train, kind, shared=True))
    assert_close(first, train(kind))
    assert_same(first[1], second[1])


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", [kind if kind == "mimic" else pytest.param(kind, marks=pytest.mark.slow) for kind in OBJECTIVES]
)
def test_a_backbone_that_is_held_and_released_and_clipped_gradients(kind: str) -> None:
    """The wrapper that averages gradients is made anew in the second epoch; norms are those of averaged gradients."""
    work = partial(train, kind, FROZEN, accumulate=2, clip_grad=0.2, freeze_epochs=1, ema=0.5)
    alone = work()
    first, second = in_ranks(2, work)
    assert_close(first, alone)
    assert_same(first[1], second[1])
    unclipped, free = (train(kind, FROZEN, **{"clip_grad": 0.2, "freeze_epochs": 1} | o) for o in OFF)
    assert alone[0][-1] != pytest.approx(unclipped[0][-1], abs=1e-4)
    assert (alone[0][1] == pytest.approx(free[0][1], abs=1e-4)) is (kind == "align")  # there it learns in no case


OFF: list[dict[str, Any]] = [{"clip_grad": None}, {"freeze_epochs": 0}]
