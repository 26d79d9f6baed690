"""The state of a training run: all that training changes, so that it can be saved and resumed."""

import gc
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn

from lshfm.console import logger
from lshfm.engine.average import WeightAverage
from lshfm.engine.moving_average import MovingAverage
from lshfm.engine.optimizer import adopt, complete, plain_state
from lshfm.engine.timed import Timed
from lshfm.ranks.group import gather, rank, share_buffers
from lshfm.ranks.replicas import Clock, alone, replicate, unwrapped


class Objective(Protocol):
    """What the loop trains: maps a batch to named losses, which are computed with one network."""

    model: nn.Module  # the network to evaluate and to keep
    trained: nn.Module  # the module that a step runs, whose gradients the ranks average: DDP wraps it

    def __call__(self, batch: Any) -> dict[str, torch.Tensor]: ...
    def train(self, mode: bool = True) -> Any: ...
    def parameters(self) -> Any: ...
    def buffers(self) -> Any: ...
    def heads(self) -> list[nn.Parameter]: ...  # what is behind the backbone
    def hold(self) -> None: ...  # the backbone does not learn, until
    def release(self) -> None: ...  # from here on it does
    def wrap_frozen(self, wrap: Callable[[nn.Module], nn.Module]) -> None: ...  # the networks that steps run beside it


@dataclass(frozen=True)
class Evaluation:
    """What an evaluator returns: one number that leads, a few beside it, and everything else for the record."""

    name: str  # "voc2010 mAP"
    score: float | None  # None where it is undefined
    report: dict[str, Any]
    beside: dict[str, float | None] = field(default_factory=dict)  # shown with the score after every epoch
    loss: float | None = None  # the label loss, mean over the images; None without labels to learn
    unchanging: tuple[str, ...] = ()  # names of `beside` that are the same after all, and shown before the first alone


class State(Timed):
    """Network, optimiser, moving average, epochs and steps done, results so far, random numbers.

    Its parts fit together as `assemble` makes them. ema: moving average of the objective's model. clock: the one that
    the replica of `objective.trained` reports to. constants: what the objective's losses were set up with (plain
    values and tensors); saved, and the same on resuming. held_epochs: the objective is held, and released after so
    many epochs; 0: it is not. average: mean of the weights over the last epochs, where it is asked for. compiled: the
    networks that steps run compiled.
    """

    def __init__(
        self,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        *,
        ema: MovingAverage | None,
        clock: Clock,
        constants: dict[str, Any] | None = None,
        held_epochs: int = 0,
        average: WeightAverage | None = None,
        compiled: Sequence[Any] = (),
    ) -> None:
        super().__init__()
        self.average = average
        self.objective, self.optimizer, self.ema, self.clock = objective, optimizer, ema, clock
        self.constants = constants or {}
        self.held_epochs = held_epochs
        self._is_held = held_epochs > 0
        self.compiled = compiled
        self.generation = 0  # another one where what a step runs on has been replaced: what was recorded of it is void
        self.epoch = 0
        self.step = 0  # of the epoch at hand
        self.history: list[dict[str, Any]] = []
        self.report: dict[str, Any] = {}  # of the last evaluation
        self._random: list[dict[str, Any]] | None = None  # of every rank, at rank 0

    @property
    def model(self) -> nn.Module:
        """The network to evaluate and to keep: the moving average where there is one."""
        return self.ema.module if self.ema else self.objective.model

    @property
    def lr(self) -> float:
        """The learning rate of the last step, before any group's factor."""
        group = self.optimizer.param_groups[0]
        return float(group.get("base_lr", group["lr"]))

    @property
    def best(self) -> dict[str, Any] | None:
        """The epoch with the highest score, the earliest of equals."""
        scored = [entry for entry in self.history if entry["score"] is not None]
        return max(scored, key=lambda entry: entry["score"], default=None)

    def begin_epoch(self) -> None:
        """Switch the objective to training mode, release it where it is time to, and restart the clock."""
        if self._is_held and self.epoch >= self.held_epochs:
            self._release()
        self.objective.train()
        self.clock.restart()

    def _release(self) -> None:
        """Let the backbone learn. DDP averages only what learnt when it wrapped the module: it wraps it anew."""
        self.generation += 1
        self.objective.release()
        self.objective.trained = unwrapped(self.objective.trained)
        gc.collect()  # the old wrapper is in a circle; while it lives, its hooks stay on the parameters
        self.objective.trained = replicate(self.objective.trained, self.clock)
        self._is_held = False
        if self.epoch == self.held_epochs:
            logger.info("from epoch %d on the backbone is no longer held", self.epoch + 1)

    def gradients(self, *, last: bool) -> AbstractContextManager[None]:
        """A context for forward and backward of a part of a batch; ranks average their gradients at the last part."""
        return nullcontext() if last else alone(self.objective.trained)

    def learning(self) -> list[nn.Parameter]:
        """All that the optimiser updates."""
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def update(self, lr: float) -> None:
        """One optimiser step on the gradients at hand."""
        self.set_lr(lr)
        self.apply()
        self.advance()

    def set_lr(self, lr: float) -> None:
        """The learning rate of the next update, before any group's factor; in place where it is a tensor."""
        for group in self.optimizer.param_groups:
            rate = lr * group.get("factor", 1.0)
            group["base_lr"] = lr
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def apply(self) -> None:
        """Update weights and moving average: all that the device does of an update."""
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema:
            self.ema.average(self.objective.model)

    def advance(self) -> None:
        """Count the step, and its time."""
        if self.ema:
            self.ema.count()
        self.step += 1
        self.clock.lap()

    @property
    def is_averaging(self) -> bool:
        """Whether all further updates are alike: a moving average's first one copies."""
        return self.ema is None or self.ema.has_begun

    def synchronise(self) -> None:
        """Before evaluating or saving, at all ranks: copy rank 0's BatchNorm statistics, gather the random states."""
        share_buffers(self.objective.model)
        if self.ema:
            share_buffers(self.ema)
        cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
        self._random = gather({"cpu": torch.get_rng_state(), "cuda": cuda})

    def end_epoch(self, evaluation: Evaluation | None) -> bool:
        """Record an epoch's evaluation, if there was one; True if it is the best so far."""
        self.epoch, self.step = self.epoch + 1, 0
        if self.average:
            self.average.add(self.epoch, self.model)
        if evaluation is None:
            return False
        entry = {"epoch": self.epoch, "metric": evaluation.name, "score": evaluation.score}
        loss = {} if evaluation.loss is None else {"validation_loss": evaluation.loss}
        self.history.append(entry | loss | evaluation.beside)
        self.report = evaluation.report
        return self.best is self.history[-1]

    @property
    def is_evaluated(self) -> bool:
        """Whether the last epoch that was trained was evaluated."""
        return bool(self.history) and self.history[-1]["epoch"] == self.epoch

    def state_dict(self) -> dict[str, Any]:
        """Plain containers and tensors (loads with weights_only=True), as of the last `synchronise`; at rank 0."""
        return {
            "model": self.objective.model.state_dict(),
            "optimizer": plain_state(self.optimizer),
            "ema": self.ema.state_dict() if self.ema else None,
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self.seconds,
            "evaluation_seconds": self.evaluation_seconds,
            "history": self.history,
            "report": self.report,
            "constants": self.constants,
            "random": self._random,
        } | ({"average": self.average.state_dict()} if self.average else {})

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore what `state_dict` gave. Raises ValueError if the losses were set up with other constants."""
        if not _equal(saved.get("constants", {}), self.constants):
            raise ValueError("its losses were set up otherwise (hash functions)")
        self.objective.model.load_state_dict(saved["model"])
        # Copied: the tensors lie in a mapped file, whose room on the disk would stay taken when it is replaced.
        adopt(self.optimizer, deepcopy(saved["optimizer"]))
        complete(self.optimizer)
        self.generation += 1
        if self.ema:
            self.ema.load_state_dict(saved["ema"])
        if self.average and "average" in saved:
            self.average.load_state_dict(saved["average"])
        self.epoch, self.step, self.seconds = saved["epoch"], saved["step"], saved["seconds"]
        self.evaluation_seconds = saved.get("evaluation_seconds", 0.0)  # older ones are counted as training
        self.history, self.report = saved["history"], saved["report"]
        if rank() < len(saved["random"]):  # else the run was saved by fewer ranks, and this one keeps its random state
            random = saved["random"][rank()]
            torch.set_rng_state(random["cpu"])
            if random["cuda"] is not None and torch.cuda.is_available():
                torch.cuda.set_rng_state(random["cuda"])


def _equal(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(
        torch.equal(a[k], b[k]) if isinstance(b[k], torch.Tensor) else a[k] == b[k] for k in b
    )
