"""The training loop, for every method and task."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch

from lshfm.engine.state import Evaluation, State


class Batch(Protocol):
    """What the loop itself needs of a batch; the objective knows the rest."""

    @property
    def index(self) -> torch.Tensor: ...  # (B,) sample numbers
    def split(self, parts: int) -> "list[Any]": ...


class Batches(Protocol):
    """Training batches, in an order that depends on the epoch alone."""

    def __len__(self) -> int: ...
    def epoch(self, epoch: int, start: int = 0) -> Iterator[Any]: ...


class Journal(Protocol):
    """Where numbers go: the console and the run folder."""

    def step(self, state: State, index: torch.Tensor, losses: dict[str, torch.Tensor], lr: float) -> None: ...
    def flush(self, state: State) -> None: ...
    def epoch(self, state: State, evaluation: Evaluation) -> None: ...


def fit(
    state: State,
    batches: Batches,
    schedule: Callable[[float], float],
    journal: Journal,
    *,
    epochs: int,
    accumulate: int,
    pause: Callable[[State], None],
    evaluate: Callable[[torch.nn.Module], Evaluation],
    save: Callable[[State, Evaluation, bool], None],
) -> None:
    """Train from where `state` is to `epochs`, evaluating and saving after every epoch; all ranks together.

    accumulate: parts that a batch goes through the network in; their losses are averaged. pause: called after every
    step; it may save, and end the training by raising.
    """
    for epoch in range(state.epoch, epochs):
        state.begin_epoch()
        for batch in batches.epoch(epoch, state.step):
            lr = schedule(epoch + state.step / len(batches))
            losses: dict[str, torch.Tensor] = {}
            parts = batch.split(accumulate)
            for part in parts:
                with state.gradients(last=part is parts[-1]):
                    named = {name: loss / accumulate for name, loss in state.objective(part).items()}
                    torch.stack(list(named.values())).sum().backward()  # type: ignore[no-untyped-call]
                losses = {name: loss.detach() + losses.get(name, 0.0) for name, loss in named.items()}
            state.update(lr)
            journal.step(state, batch.index, losses, lr)
            pause(state)
        journal.flush(state)  # a loss that is not finite ends the run here, before anything is saved
        state.synchronise()
        evaluation = evaluate(state.model)
        is_best = state.end_epoch(evaluation)
        journal.epoch(state, evaluation)
        save(state, evaluation, is_best)
