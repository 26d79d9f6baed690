"""A training step: forward, backward and update on one batch; its losses are those before the update."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from lshfm.engine.captured import CapturedStep
from lshfm.engine.compiled import CheckedStep
from lshfm.engine.graphs import Graphs
from lshfm.engine.state import State


class Batch(Protocol):
    """What loop and step read of a batch; the objective knows the rest."""

    @property
    def index(self) -> Tensor: ...  # (B,) sample numbers
    def split(self, parts: int) -> "list[Any]": ...


class Step(Protocol):
    """One step of training at a learning rate, counted in the state; the named losses, detached scalars.

    The losses stay valid after the next step: the journal keeps them on the device until it writes a line.
    """

    def __call__(self, batch: Any, lr: float) -> dict[str, Tensor]: ...


class EagerStep:
    """Forward, backward and update, operation by operation.

    accumulate: parts that a batch goes through the network in, one after the other; their losses are averaged.
    clip_grad: the largest L2 norm of all gradients together, those of the whole batch and of all ranks; None: any.
    """

    def __init__(self, state: State, *, accumulate: int = 1, clip_grad: float | None = None) -> None:
        self.state, self.accumulate, self.clip_grad = state, accumulate, clip_grad

    def __call__(self, batch: Batch, lr: float) -> dict[str, Tensor]:
        """Losses are those of this rank's batch; the gradients are averaged over all ranks."""
        losses = self._gradients(batch)
        self.state.update(lr)
        return losses

    def work(self, batch: Batch) -> dict[str, Tensor]:
        """All of the step that the device does, at the learning rate that is set; nothing is counted."""
        losses = self._gradients(batch)
        self.state.apply()
        return losses

    def _gradients(self, batch: Batch) -> dict[str, Tensor]:
        if self.accumulate == 1:  # as below, without operations that change nothing
            named = self.state.objective(batch)
            _backward(named)
            losses = {name: loss.detach() for name, loss in named.items()}
        else:
            losses = self._of_parts(batch.split(self.accumulate))
        if self.clip_grad is not None:
            torch.nn.utils.clip_grad_norm_(self.state.learning(), self.clip_grad)
        return losses

    def _of_parts(self, parts: Sequence[Any]) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = {}
        for part in parts:
            with self.state.gradients(last=part is parts[-1]):
                named = {name: loss / self.accumulate for name, loss in self.state.objective(part).items()}
                _backward(named)
            losses = {name: loss.detach() + losses.get(name, 0.0) for name, loss in named.items()}
        return losses


def _backward(losses: Mapping[str, Tensor]) -> None:
    torch.stack(list(losses.values())).sum().backward()


def make_step(
    state: State,
    *,
    accumulate: int = 1,
    clip_grad: float | None = None,
    capture: Graphs | None = None,
    images: int | None = None,
) -> Step:
    """The step for a state as `assemble` made it.

    accumulate, clip_grad: as in EagerStep. capture: what records the whole step, for an optimiser that was made with
    `capturable`; None: it goes operation by operation. images: of a full batch at this rank, whose shape is compiled
    and recorded; None: that of the first batch. Networks that are compiled are tried before the first step.
    """
    eager = EagerStep(state, accumulate=accumulate, clip_grad=clip_grad)
    step: Step = CapturedStep(eager, capture, images) if capture else eager
    return CheckedStep(step, state, accumulate, images) if state.compiled else step
