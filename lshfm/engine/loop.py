"""The training loop, for every method and task."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch

from lshfm.engine.state import Evaluation, State
from lshfm.engine.step import Step
from lshfm.engine.stop import never


class Batches(Protocol):
    """Training batches, in an order that depends on the epoch alone."""

    def __len__(self) -> int: ...
    def epoch(self, epoch: int, start: int = 0) -> Iterator[Any]: ...


class Journal(Protocol):
    """Takes losses and evaluations to the console and the run folder."""

    def step(self, state: State, index: torch.Tensor, losses: dict[str, torch.Tensor], lr: float) -> None: ...
    def flush(self, state: State) -> None: ...
    def epoch(self, state: State, evaluation: Evaluation | None) -> None: ...


def fit(
    state: State,
    step: Step,
    batches: Batches,
    schedule: Callable[[float], float],
    journal: Journal,
    *,
    epochs: int,
    pause: Callable[[State], None],
    evaluate: Callable[[torch.nn.Module], Evaluation],
    save: Callable[[State, Evaluation | None, bool], None],
    is_enough: Callable[[State], bool] = never,
    eval_every: int = 1,
) -> None:
    """Train from where `state` is to `epochs`, saving after every epoch; all ranks together.

    step: trains `state` on a batch. pause: called after every step; it may save, and end the training by raising.
    evaluate: the evaluation of a network after an epoch, after every `eval_every` and the last. save: told the
    evaluation, None where there was none, and whether it is the best so far. is_enough: asked before every epoch
    whether to end, the same at all ranks.
    """
    for epoch in range(state.epoch, epochs):
        if is_enough(state):
            break
        state.begin_epoch()
        steps = len(batches)
        for batch in batches.epoch(epoch, state.step):
            lr = schedule(epoch + state.step / steps)
            losses = step(batch, lr)
            journal.step(state, batch.index, losses, lr)
            pause(state)
        journal.flush(state)  # a loss that is not finite ends the run here, before anything is saved
        state.synchronise()
        evaluation = evaluate(state.model) if is_evaluated(epoch + 1, epochs, eval_every) else None
        is_best = state.end_epoch(evaluation)
        journal.epoch(state, evaluation)
        save(state, evaluation, is_best)


def is_evaluated(epoch: int, epochs: int, every: int) -> bool:
    """Whether a network is evaluated after an epoch, from 1: after every so many, and after the last always."""
    return epoch % every == 0 or epoch == epochs
