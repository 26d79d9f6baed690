"""All that training changes, so that it can be saved and taken up again."""

from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lshfm.ranks.group import gather, rank, share_buffers
from lshfm.ranks.replicas import Clock, alone, replicate


class Objective(Protocol):
    """What the loop trains: a batch to named losses, around one network (architecture: contract 2)."""

    model: nn.Module  # to evaluate and to keep
    trained: nn.Module  # what a step runs of it: the one module whose gradients the ranks average

    def __call__(self, batch: Any) -> dict[str, torch.Tensor]: ...
    def train(self, mode: bool = True) -> Any: ...
    def parameters(self) -> Any: ...


@dataclass(frozen=True)
class Evaluation:
    """What an evaluator returns: one number that leads, a few beside it, and everything else for the record."""

    name: str  # "voc2010 mAP"
    score: float | None  # None where it is undefined
    report: dict[str, Any]
    beside: dict[str, float | None] = field(default_factory=dict)  # shown with the score after every epoch


def make_optimizer(objective: Objective, name: str, *, momentum: float, weight_decay: float) -> torch.optim.Optimizer:
    """SGD with momentum, or AdamW, over what learns; weight decay on all of it, as published."""
    parameters = [p for p in objective.parameters() if p.requires_grad]
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=0.0, momentum=momentum, weight_decay=weight_decay)
    return torch.optim.AdamW(parameters, lr=0.0, betas=(momentum, 0.999), weight_decay=weight_decay)


class State:
    """Network, optimiser, moving average, epochs and steps done, results so far, random numbers.

    constants: what the objective's losses were set up with (plain values and tensors); saved, and the same on resuming.
    """

    def __init__(
        self,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        *,
        ema: float = 0.0,
        constants: dict[str, Any] | None = None,
    ) -> None:
        self.objective, self.optimizer = objective, optimizer
        average = get_ema_multi_avg_fn(ema)  # type: ignore[no-untyped-call]
        self.ema = AveragedModel(objective.model, multi_avg_fn=average, use_buffers=True) if ema else None
        self.clock = Clock()
        objective.trained = replicate(objective.trained, self.clock)
        self.constants = constants or {}
        self.epoch = 0
        self.step = 0  # of the epoch at hand
        self.seconds = 0.0
        self.history: list[dict[str, Any]] = []
        self.report: dict[str, Any] = {}  # of the last evaluation
        self._random: list[dict[str, Any]] | None = None  # of every rank, at rank 0

    @property
    def model(self) -> nn.Module:
        """The network to evaluate and to keep: the moving average where there is one."""
        return self.ema.module if self.ema else self.objective.model

    @property
    def best(self) -> dict[str, Any] | None:
        """The epoch with the highest score, the earliest of equals."""
        scored = [entry for entry in self.history if entry["score"] is not None]
        return max(scored, key=lambda entry: entry["score"], default=None)

    def begin_epoch(self) -> None:
        """Back to training, after whatever was done since the last epoch."""
        self.objective.train()
        self.clock.restart()

    def gradients(self, *, last: bool) -> AbstractContextManager[None]:
        """Around forward and backward of a part of a batch; with the last one the ranks average their gradients."""
        return nullcontext() if last else alone(self.objective.trained)

    def update(self, lr: float) -> None:
        """One optimiser step on the gradients at hand."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema:
            self.ema.update_parameters(self.objective.model)
        self.step += 1
        self.clock.lap()

    def synchronise(self) -> None:
        """Make ready, at all ranks together, for evaluating and saving: BatchNorm's running statistics are rank 0's."""
        share_buffers(self.objective.model)
        if self.ema:
            share_buffers(self.ema)
        cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
        self._random = gather({"cpu": torch.get_rng_state(), "cuda": cuda})

    def end_epoch(self, evaluation: Evaluation) -> bool:
        """Record an epoch's evaluation; True if it is the best so far."""
        self.epoch, self.step = self.epoch + 1, 0
        entry = {"epoch": self.epoch, "metric": evaluation.name, "score": evaluation.score}
        self.history.append(entry | evaluation.beside)
        self.report = evaluation.report
        return self.best is self.history[-1]

    def state_dict(self) -> dict[str, Any]:
        """Plain containers and tensors (loads with weights_only=True), as of the last `synchronise`; at rank 0."""
        return {
            "model": self.objective.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.state_dict() if self.ema else None,
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self.seconds,
            "history": self.history,
            "report": self.report,
            "constants": self.constants,
            "random": self._random,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take up what state_dict gave. Raises ValueError if the losses were set up otherwise."""
        if not _equal(saved.get("constants", {}), self.constants):
            raise ValueError("its losses were set up otherwise (hash functions)")
        self.objective.model.load_state_dict(saved["model"])
        # Copied: the tensors lie in a mapped file, whose room on the disk would stay taken when it is replaced.
        self.optimizer.load_state_dict(deepcopy(saved["optimizer"]))
        if self.ema:
            self.ema.load_state_dict(saved["ema"])
        self.epoch, self.step, self.seconds = saved["epoch"], saved["step"], saved["seconds"]
        self.history, self.report = saved["history"], saved["report"]
        if rank() < len(saved["random"]):  # else there were fewer ranks, and this one goes on with its own numbers
            random = saved["random"][rank()]
            torch.set_rng_state(random["cpu"])
            if random["cuda"] is not None and torch.cuda.is_available():
                torch.cuda.set_rng_state(random["cuda"])


def _equal(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(
        torch.equal(a[k], b[k]) if isinstance(b[k], torch.Tensor) else a[k] == b[k] for k in b
    )
