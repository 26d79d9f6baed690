"""A recorded step beside the eager one: losses, weights and all other state, to the bit."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from lshfm.datasets.loader import Batch
from lshfm.engine.assemble import assemble
from lshfm.engine.schedule import learning_rate
from lshfm.engine.state import State
from lshfm.engine.step import Step, make_step
from lshfm.losses.classification import ASL, BCE
from lshfm.losses.features import L2
from lshfm.losses.logits import KL, SigmoidKL
from lshfm.losses.lsh import LSH, HashFunctions, draw_weights
from lshfm.objectives.align import Align
from lshfm.objectives.learner import Learner
from lshfm.objectives.mimic import Mimic
from lshfm.objectives.supervised import Supervised
from lshfm.objectives.teacher import Normalisation, Teacher
from lshfm.objectives.terms import Term, Terms
from tests.engine.test_training_loop import equal
from tests.recording import RecordedGraphs

CLASSES, STEPS = 3, 6
SCHEDULE = learning_rate(0.1, cosine_epochs=2, warmup=0.5)


class Network(nn.Module):
    """Convolution, BatchNorm, projection, dropout, classifier."""

    num_features = 6

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5)
        self.projection, self.dropout, self.classifier = nn.Linear(5, 6), nn.Dropout(dropout), nn.Linear(6, CLASSES)

    def raw_feature(self, images: torch.Tensor) -> torch.Tensor:
        raw: torch.Tensor = self.norm(self.convolution(images)).relu().mean((2, 3))
        return raw

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        feature = self.projection(self.raw_feature(images))
        return feature, self.classifier(self.dropout(feature))


def batches(count: int = STEPS, size: int = 4) -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(3)
    for number in range(count):
        images = torch.randn(size, 3, 6, 6, generator=generator)
        labels = torch.randint(-1, 2, (size, CLASSES), generator=generator).to(torch.int8)
        yield Batch(torch.arange(size) + number, images, labels, epoch=0)


def terms(*losses: nn.Module) -> Terms:
    return Terms([Term(f"{type(loss).__name__}", 0.5, loss) for loss in losses])


def objective(kind: str, dropout: float) -> Learner:
    torch.manual_seed(5)
    teacher = Teacher(Network(), normalisation=Normalisation((1.1,) * 3, (0.2,) * 3))
    student = Network(dropout)
    functions = HashFunctions(draw_weights(16, 6, 1.0, seed=0), torch.zeros(16), std=1.0, seed=0, rule="zero")
    if kind == "align":
        return Align(student, teacher, terms(LSH(functions), L2()))
    if kind == "mimic":
        return Mimic(
            student, teacher, label_loss=BCE([1.0, 2.0, 3.0], 0.1), label_name="bce", gamma=0.7,
            feature_terms=terms(LSH(functions, "l1"), L2()), logit_terms=terms(KL(), SigmoidKL()),
        )  # fmt: skip
    return Supervised(student, ASL(), "asl")


def made(kind: str = "mimic", *, dropout: float = 0.0, optimizer: str = "sgd", **parts: Any) -> State:
    return assemble(
        objective(kind, dropout), optimizer=optimizer, momentum=0.9, weight_decay=0.01, capturable=True, **parts
    )


def trained(state: State, step: Step, count: int = STEPS) -> list[dict[str, float]]:
    """The losses of the steps, read at the end: they have to outlive the steps after them."""
    losses = []
    for batch in list(batches())[state.step : state.step + count]:
        state.objective.train()
        losses.append(step(batch, SCHEDULE(state.step / STEPS)))
    return [{name: loss.item() for name, loss in each.items()} for each in losses]


def contents(state: State) -> dict[str, Any]:
    state.synchronise()
    return {name: value for name, value in state.state_dict().items() if "seconds" not in name}


@pytest.mark.parametrize(
    ("kind", "parts", "step"),
    [
        ("mimic", {"optimizer": "sgd", "head_lr": 10.0}, {}),
        ("mimic", {"optimizer": "adamw", "decay_weights_only": True}, {"clip_grad": 0.05}),
        ("mimic", {"optimizer": "sgd", "ema": 0.9, "dropout": 0.5}, {"accumulate": 2}),
        ("align", {"optimizer": "adam"}, {}),
        ("train", {"optimizer": "sgd", "dropout": 0.5, "ema": 0.5}, {"clip_grad": 0.05}),
    ],
)
def test_a_recorded_step_equals_the_eager_one(kind: str, parts: dict[str, Any], step: dict[str, Any]) -> None:
    eager, graphs = made(kind, **parts), RecordedGraphs()
    losses = trained(eager, make_step(eager, **step))
    captured = made(kind, **parts)
    assert trained(captured, make_step(captured, capture=graphs, **step)) == losses
    assert equal(contents(captured), contents(eager))
    assert (graphs.recorded, graphs.replayed) == (1, STEPS - bool(parts.get("ema")))
    assert losses[0] != losses[-1]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("onwards", ["captured", "eager", "plain"])
def test_a_run_goes_on_from_a_checkpoint_captured_or_not(optimizer: str, onwards: str) -> None:
    whole = made(optimizer=optimizer)
    losses = trained(whole, make_step(whole, capture=RecordedGraphs()))
    first = made(optimizer=optimizer)
    trained(first, make_step(first, capture=RecordedGraphs()), 3)
    saved = contents(first) | {"seconds": 0.0}
    assert all(type(group["lr"]) is float for group in saved["optimizer"]["param_groups"])
    if onwards == "plain":  # as after a move to a machine that cannot capture
        second = assemble(objective("mimic", 0.0), optimizer=optimizer, momentum=0.9, weight_decay=0.01)
    else:
        second = made(optimizer=optimizer)
    second.load_state_dict(saved)
    step = make_step(second, capture=RecordedGraphs() if onwards == "captured" else None)
    after = trained(second, step, 3)
    if onwards == "plain":
        assert not second.optimizer.param_groups[0].get("fused")
        assert [each["bce"] for each in after] == pytest.approx([each["bce"] for each in losses[3:]], rel=1e-6)
    else:
        assert after == losses[3:]


def test_batches_of_other_shapes_go_eagerly(caplog: pytest.LogCaptureFixture) -> None:
    eager, captured, graphs = made(), made(), RecordedGraphs()
    mixed = [*batches(2), *batches(1, size=3), *batches(2)]
    steps = make_step(eager), make_step(captured, capture=graphs)
    with caplog.at_level(logging.INFO, "lshfm"):
        for batch in mixed:
            ours, theirs = (step(batch, 0.1) for step in steps)
            assert equal(ours, theirs)
    assert graphs.replayed == 4
    assert [record.message for record in caplog.records] == [
        "a batch of 3 images has another shape than the captured ones: it goes eagerly"
    ]
    assert equal(contents(captured), contents(eager))


def test_it_is_recorded_anew_when_the_backbone_is_released() -> None:
    states = []
    for graphs in (None, RecordedGraphs()):
        state = made("train", freeze_epochs=1, optimizer="sgd")
        step = make_step(state, capture=graphs)
        for epoch in range(2):
            state.epoch = epoch
            state.begin_epoch()
            for batch in batches(3):
                step(batch, 0.1)
        states.append(state)
        if graphs:
            assert (graphs.recorded, graphs.replayed) == (2, 6)
    assert equal(contents(states[0]), contents(states[1]))


class ReadsIndex(Supervised):
    """As a recording of a teacher would."""

    def forward(self, batch: Any) -> dict[str, torch.Tensor]:
        return {name: loss * (1 + batch.index[0]) for name, loss in super().forward(batch).items()}


class Asks(Supervised):
    """Needs a number on the host."""

    def forward(self, batch: Any) -> dict[str, torch.Tensor]:
        return {name: loss * loss.item() for name, loss in super().forward(batch).items()}


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (ReadsIndex, "it reads the batch's index, which does not lie on the device"),
        (Asks, "operation not permitted when stream is capturing"),
    ],
)
def test_what_cannot_be_recorded_goes_eagerly(kind: type, why: str, caplog: pytest.LogCaptureFixture) -> None:
    states = []
    for graphs in (None, RecordedGraphs()):
        torch.manual_seed(5)
        state = assemble(
            kind(Network(0.5), BCE(), "bce"), optimizer="sgd", momentum=0.9, weight_decay=0.0, capturable=True
        )
        trained(state, make_step(state, capture=graphs))
        states.append(contents(state))
    assert equal(*states)
    assert [record.message for record in caplog.records] == [f"the step is not captured, it goes eagerly: {why}"]


def test_a_batch_that_is_no_set_of_tensors_goes_eagerly(caplog: pytest.LogCaptureFixture) -> None:
    class Ragged:
        index = torch.arange(2)
        images = torch.randn(2, 3, 6, 6)
        labels = torch.ones(2, CLASSES, dtype=torch.int8)
        second_labels = share = None

        def split(self, parts: int) -> "list[Ragged]":
            return [self]

    state = made("train")
    make_step(state, capture=RecordedGraphs())(Ragged(), 0.1)
    assert state.step == 1
    assert "its batches are not made of tensors of fixed shapes" in caplog.text


def test_a_short_batch_that_comes_first_does_not_decide_what_is_recorded() -> None:
    """As after a run was stopped before the last batch of an epoch."""
    eager, captured, graphs = made(), made(), RecordedGraphs()
    steps = make_step(eager), make_step(captured, capture=graphs, images=4)
    for batch in [*batches(1, size=3), *batches(2), *batches(1, size=3)]:
        ours, theirs = (step(batch, 0.1) for step in steps)
        assert equal(ours, theirs)
    assert (graphs.recorded, graphs.replayed) == (1, 2)
    assert equal(contents(captured), contents(eager))
