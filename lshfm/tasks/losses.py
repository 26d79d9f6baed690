"""The label loss of an evaluation, from the outputs and labels that it collected."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from lshfm.console import logger
from lshfm.engine.state import Evaluation
from lshfm.ranks.group import on_main
from lshfm.tasks.task import Arrays, Evaluate, Task

ENTRIES = 2**14  # torch sums so few in one thread: the same bits whatever number of threads and ranks there is


@torch.no_grad()
def mean_loss(loss: nn.Module, outputs: np.ndarray, labels: np.ndarray) -> float | None:
    """A loss of (outputs (n, C), labels (n, ...)), mean over the images, in fp32 on the CPU.

    A loss that sums over a batch is summed and divided by the images; another one is taken to be a mean over them.
    None if it is not finite, or if there are no images.
    """
    is_sum = getattr(loss, "reduction", "mean") == "sum"
    rows, parts = max(1, ENTRIES // outputs.shape[1]), []
    for start in range(0, len(outputs), rows):
        part, own = torch.from_numpy(outputs[start : start + rows]), torch.from_numpy(labels[start : start + rows])
        parts.append(float(loss(part, own)) * (1 if is_sum else len(part)))
    mean = math.fsum(parts) / len(outputs) if parts and all(map(math.isfinite, parts)) else math.nan
    return mean if math.isfinite(mean) else None


def log_loss(name: str, loss: nn.Module) -> None:
    """Say what a label loss was set up with, if it tells."""
    if words := loss.extra_repr():
        logger.info("loss %s: %s", name, words)


def counted(loss: nn.Module | None) -> dict[str, Any]:
    """The record's entry on what a label loss has from the training labels: values of its keys; none without such."""
    values = getattr(loss, "counted", {})
    return {"label_loss_counted": values} if values else {}


def with_loss(evaluate: Evaluate, task: Task, loss: nn.Module | None) -> Evaluate:
    """The evaluator with the label loss, if there is one, in its evaluations; rank 0 computes it for all."""
    if loss is None:
        return evaluate

    def measured(network: nn.Module) -> tuple[Evaluation, Arrays]:
        evaluation, arrays = evaluate(network)
        return replace(evaluation, loss=on_main(lambda: task.mean_loss(loss, arrays), "computing the loss")), arrays

    return measured
