"""Logits of a whole split, each sample once."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from lshfm.device import autocast


@dataclass(frozen=True)
class Predictions:
    """A split's outputs in the order of its samples."""

    index: np.ndarray  # (n,) int64, increasing, without repeats
    logits: np.ndarray  # (n, C) float32
    labels: np.ndarray  # (n, ...) as the batches carry them


@torch.no_grad()
def predict(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    precision: str = "fp32",
    report: Callable[[int], None] | None = None,
) -> Predictions:
    """Run `model` in eval mode over `batches`; a sample that comes twice counts once.

    report: told the number of batches done.
    """
    model.eval()
    collected: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    for done, batch in enumerate(batches, start=1):
        with autocast(batch.images.device, precision):
            _, logits = model(batch.images)
        collected.append((batch.index, logits.float(), batch.labels))
        if report:
            report(done)
    index, logits, labels = (torch.cat(parts).cpu().numpy() for parts in zip(*collected, strict=True))
    index, first = np.unique(index, return_index=True)
    return Predictions(index, logits[first], labels[first])
