"""Collects a network's outputs on a whole split from all ranks, each sample once."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from lshfm.ranks.device import autocast
from lshfm.ranks.group import doing, gather


@dataclass(frozen=True)
class Predictions:
    """A network's outputs on a split, in the order of the samples."""

    index: np.ndarray  # (n,) int64, numbers of the samples, increasing, without repeats
    logits: np.ndarray  # (n, C) float32
    labels: np.ndarray  # (n, ...) as the batches hold them
    features: np.ndarray | None = None  # (n, D) float32; None unless `predict` was asked for them


@torch.no_grad()
def predict(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    precision: str = "fp32",
    features: bool = False,
    report: Callable[[int], None] | None = None,
) -> Predictions | None:
    """Outputs of `model` in eval mode on the batches of all ranks, returned at rank 0; None at the others.

    model: images -> (feature, logits). batches: this rank's, with `index`, `images` and `labels`; of a sample that
    comes twice the first output counts. precision: of the network's arithmetic, fp32 or bf16. features: whether to
    keep them. report: called after each of this rank's batches with their number so far.
    """
    model.eval()
    collected: list[tuple[torch.Tensor, ...]] = []
    with doing("evaluating"):
        for done, batch in enumerate(batches, start=1):
            with autocast(batch.images.device, precision):
                feature, logits = model(batch.images)
            collected.append((batch.index, logits.float(), batch.labels, *([feature.float()] if features else [])))
            if report:
                report(done)
    local_columns = [torch.cat(parts).cpu().numpy() for parts in zip(*collected, strict=True)]
    gathered = gather(local_columns)
    if gathered is None:
        return None
    ranks = [columns for columns in gathered if columns]  # there may be fewer batches than ranks
    index, *columns = (np.concatenate(parts) for parts in zip(*ranks, strict=True))
    index, first = np.unique(index, return_index=True)
    return Predictions(index, *(column[first] for column in columns))
