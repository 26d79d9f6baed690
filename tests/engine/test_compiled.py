"""Networks that steps run compiled: which calls are, what stays as it was, and what happens where it fails."""

import logging
import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch

from lshfm.datasets.loader import Batch
from lshfm.engine.assemble import assemble
from lshfm.engine.compiled import Compiled
from lshfm.engine.state import State
from lshfm.engine.step import make_step
from lshfm.losses.classification import BCE
from lshfm.losses.rivals import Attention
from lshfm.models.cifar import cifar_classifier
from lshfm.models.wrappings import COMPILED
from lshfm.objectives.mimic import Mimic
from lshfm.objectives.supervised import Supervised
from lshfm.objectives.teacher import Teacher
from lshfm.ranks.group import rank
from lshfm.ranks.sums import total
from tests.engine.test_captured import CLASSES, Network, batches, contents, made, terms, trained
from tests.engine.test_training_loop import equal
from tests.groups import in_ranks
from tests.recording import RecordedGraphs

Function = Callable[[torch.Tensor], Any]


class Counting:
    """A compiler that leaves functions as they are, and notes the shapes that they are called with."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, function: Function) -> Function:
        def counted(images: torch.Tensor) -> Any:
            self.shapes.append(tuple(images.shape))
            return function(images)

        return counted


@pytest.mark.parametrize("varied", [False, True])
def test_other_shapes_are_compiled_only_where_they_vary(varied: bool) -> None:
    counting = Counting()
    network = Compiled(torch.nn.ReLU(), counting, varied=varied)
    for size in (4, 6, 4):
        network(torch.zeros(1, 3, size, size))
    assert [shape[-1] for shape in counting.shapes] == ([4, 6, 4] if varied else [4, 4])
    network.give_up()
    network(torch.zeros(1, 3, 4, 4))
    assert len(counting.shapes) == (3 if varied else 2)


def failing(function: Function) -> Function:
    def fail(images: torch.Tensor) -> Any:
        function(images)  # as at a break in a graph: BatchNorm has counted the batch by then
        raise RuntimeError("no such operator: fold\nand much more")

    return fail


class FailingBackwards(torch.autograd.Function):
    @staticmethod
    def forward(_context: object, values: torch.Tensor) -> torch.Tensor:
        return values.clone()

    @staticmethod
    def backward(_context: object, gradient: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no kernel for the gradient")


def failing_backwards(function: Function) -> Function:
    return lambda images: tuple(FailingBackwards.apply(output) for output in function(images))


def compiled(compiler: Any, **parts: Any) -> State:
    return made(compile_teacher=True, compile_student=True, compiler=compiler, **parts)


def test_training_batches_alone_are_compiled_and_names_stay() -> None:
    plain, compiler = made(), Counting()
    state = compiled(compiler)
    assert state.objective.model.state_dict().keys() == plain.objective.model.state_dict().keys()
    assert trained(state, make_step(state)) == trained(plain, make_step(plain))
    assert equal(contents(state), contents(plain))
    assert compiler.shapes == [(4, 3, 6, 6)] * 14  # teacher and student, of a trial and six steps
    step = make_step(state)
    for odd in batches(1, size=3):
        step(odd, 0.1)
    state.model(torch.zeros(2, 3, 6, 6))
    state.objective.teacher.embed(torch.zeros(4, 3, 6, 6))
    assert set(compiler.shapes) == {(4, 3, 6, 6)}
    assert COMPILED not in " ".join(state.model.state_dict())


@pytest.mark.parametrize("compiler", [failing, failing_backwards])
@pytest.mark.parametrize("capture", [False, True])
def test_where_compiling_fails_all_goes_on_uncompiled(
    compiler: Any, capture: bool, caplog: pytest.LogCaptureFixture
) -> None:
    parts: dict[str, Any] = {"dropout": 0.5, "optimizer": "adamw", "ema": 0.9}
    plain = made(**parts)
    losses = trained(plain, make_step(plain))
    state, graphs = compiled(compiler, **parts), RecordedGraphs()
    with caplog.at_level(logging.INFO, "lshfm"):
        assert trained(state, make_step(state, capture=graphs if capture else None)) == losses
    assert equal(contents(state), contents(plain))
    why = "no such operator: fold" if compiler is failing else "no kernel for the gradient"
    assert [record.message for record in caplog.records] == [f"the networks go uncompiled: {why}"]
    assert graphs.replayed == (5 if capture else 0)


def test_a_teacher_whose_maps_are_compared_is_compiled_too() -> None:
    def losses(compiler: Counting | None) -> dict[str, float]:
        torch.manual_seed(0)
        student, teacher = cifar_classifier("resnet8", CLASSES), cifar_classifier("resnet8", CLASSES)
        objective = Mimic(
            student, Teacher(teacher), label_loss=BCE(), label_name="bce", gamma=1.0, feature_terms=terms(),
            logit_terms=terms(), other_terms={"map": terms(Attention())},
        )  # fmt: skip
        state = assemble(
            objective, optimizer="sgd", momentum=0.9, weight_decay=0.0, compile_teacher=compiler is not None,
            compiler=compiler or Counting(),
        )  # fmt: skip
        return {name: loss.item() for name, loss in make_step(state)(next(batches()), 0.1).items()}

    compiler = Counting()
    assert losses(compiler) == losses(None)
    assert len(compiler.shapes) == 2  # a trial and a step


def test_what_a_backend_raised_is_told(caplog: pytest.LogCaptureFixture) -> None:
    def raising(function: Function) -> Function:
        def fail(images: torch.Tensor) -> Any:
            raise RuntimeError("backend='inductor' raised:\nTypeError: no lowering\n\nmuch more")

        return fail

    state = compiled(raising)
    trained(state, make_step(state), 1)
    assert caplog.messages == ["the networks go uncompiled: backend='inductor' raised: TypeError: no lowering"]


def test_a_compiled_step_is_captured_too() -> None:
    plain, state, graphs = made(), compiled(Counting()), RecordedGraphs()
    assert trained(state, make_step(state, capture=graphs)) == trained(plain, make_step(plain))
    assert graphs.replayed == 6


def test_parts_of_a_batch_are_of_one_shape() -> None:
    plain, compiler = made(), Counting()
    state = compiled(compiler)
    assert trained(state, make_step(state, accumulate=2)) == trained(plain, make_step(plain, accumulate=2))
    assert set(compiler.shapes) == {(2, 3, 6, 6)}


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler")
@pytest.mark.filterwarnings("default")  # torch's own
def test_torchs_compiler_gives_the_same_losses_and_compiles_once() -> None:
    from torch._dynamo.utils import counters

    plain = made()
    state = made(compile_teacher=True, compile_student=True)
    losses, theirs = trained(plain, make_step(plain)), trained(state, make_step(state))
    for ours, others in zip(losses, theirs, strict=True):
        assert ours == pytest.approx(others, rel=1e-3)
    graphs = counters["stats"]["unique_graphs"]
    step = make_step(state)
    for odd in (Batch(b.index, b.images, b.labels, 0) for b in batches(1, size=3)):
        step(odd, 0.1)
    state.model.eval()
    state.model(torch.zeros(5, 3, 6, 6))
    assert counters["stats"]["unique_graphs"] == graphs == 2
    assert all(network.is_compiled for network in state.compiled)


def test_a_short_batch_that_comes_first_is_not_compiled() -> None:
    compiler = Counting()
    step = make_step(compiled(compiler), accumulate=2, images=4)
    for batch in [*batches(1, size=2), *batches(1)]:
        step(batch, 0.1)
    assert set(compiler.shapes) == {(2, 3, 6, 6)}
    assert len(compiler.shapes) == 2 * 3  # both networks: a trial and two parts of the full batch


class Meeting(Supervised):
    """Its loss waits for all ranks, after the network has run."""

    def forward(self, batch: Any) -> dict[str, torch.Tensor]:
        return {name: loss + 0 * total(loss.detach()) for name, loss in super().forward(batch).items()}


def _one_fails(backwards: bool) -> list[bool]:
    torch.manual_seed(5)
    compiler = Counting() if rank() == 0 else failing_backwards if backwards else failing
    state = assemble(
        Meeting(Network(), BCE(), "bce"), optimizer="sgd", momentum=0.9, weight_decay=0.0, compile_student=True,
        compiler=compiler,
    )  # fmt: skip
    trained(state, make_step(state, images=4))
    return [network._compiled is None for network in state.compiled]


@pytest.mark.parametrize("backwards", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_what_fails_at_one_rank_is_given_up_at_all(backwards: bool) -> None:
    """The others, which wait in the loss, are not left there."""
    assert in_ranks(2, _one_fails, backwards) == [[True], [True]]
