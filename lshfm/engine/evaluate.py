"""Outputs of a whole split, each sample once, whichever ranks computed them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from lshfm.ranks.device import autocast
from lshfm.ranks.group import gather


@dataclass(frozen=True)
class Predictions:
    """A split's outputs in the order of its samples."""

    index: np.ndarray  # (n,) int64, increasing, without repeats
    logits: np.ndarray  # (n, C) float32
    labels: np.ndarray  # (n, ...) as the batches carry them
    features: np.ndarray | None = None  # (n, D) float32, where they were asked for


@torch.no_grad()
def predict(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    precision: str = "fp32",
    features: bool = False,
    report: Callable[[int], None] | None = None,
) -> Predictions | None:
    """Run `model` in eval mode over this rank's `batches`; those of all ranks are returned at rank 0, None elsewhere.

    A sample that comes twice counts once. features: keep the features as well. report: told the number of batches
    done here.
    """
    model.eval()
    collected: list[tuple[torch.Tensor, ...]] = []
    for done, batch in enumerate(batches, start=1):
        with autocast(batch.images.device, precision):
            feature, logits = model(batch.images)
        collected.append((batch.index, logits.float(), batch.labels, *([feature.float()] if features else [])))
        if report:
            report(done)
    own = [torch.cat(parts).cpu().numpy() for parts in zip(*collected, strict=True)]
    gathered = gather(own)
    if gathered is None:
        return None
    ranks = [columns for columns in gathered if columns]  # there may be fewer batches than ranks
    index, *columns = (np.concatenate(parts) for parts in zip(*ranks, strict=True))
    index, first = np.unique(index, return_index=True)
    return Predictions(index, *(column[first] for column in columns))
