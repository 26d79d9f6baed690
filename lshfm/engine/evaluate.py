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
    waiting: list[tuple[torch.Tensor, ...]] = []  # on a GPU until the end, so that no batch waits for a copy
    columns: list[_Column] = []
    with doing("evaluating"):
        for done, batch in enumerate(batches, start=1):
            with autocast(batch.images.device, precision):
                feature, logits = model(batch.images)
            waiting.append((batch.index, logits.float(), batch.labels, *([feature.float()] if features else [])))
            if batch.images.device.type == "cpu":
                _empty(waiting, columns)
            if report:
                report(done)
    _empty(waiting, columns)
    gathered = gather([column.whole() for column in columns])
    if gathered is None:
        return None
    ranks = [columns for columns in gathered if columns]  # there may be fewer batches than ranks
    return Predictions(*_ordered(*(ranks[0] if len(ranks) == 1 else map(np.concatenate, zip(*ranks, strict=True)))))


class _Column:
    """Rows that come in batches, in an array on the host that grows in place: memory never holds them twice."""

    STEP = 2**25  # bytes

    def __init__(self, like: np.ndarray) -> None:
        self._rows, self._num = np.empty((0, *like.shape[1:]), like.dtype), 0

    def add(self, rows: np.ndarray) -> None:
        """Append rows."""
        end = self._num + len(rows)
        if end > len(self._rows):
            step = self.STEP // max(rows[0].nbytes, 1)
            self._rows.resize((max(end, self._num + step), *rows.shape[1:]), refcheck=False)
        self._rows[self._num : end] = rows
        self._num = end

    def whole(self) -> np.ndarray:
        """All rows."""
        self._rows.resize((self._num, *self._rows.shape[1:]), refcheck=False)
        return self._rows


def _empty(waiting: list[tuple[torch.Tensor, ...]], columns: list[_Column]) -> None:
    """Move the rows of batches into columns on the host."""
    for batch in waiting:
        rows = [tensor.cpu().numpy() for tensor in batch]
        if not columns:
            columns.extend(map(_Column, rows))
        for column, own in zip(columns, rows, strict=True):
            column.add(own)
    waiting.clear()


def _ordered(index: np.ndarray, *columns: np.ndarray) -> tuple[np.ndarray, ...]:
    """Rows by increasing index, each once; arrays that are so already are not copied."""
    if (np.diff(index) > 0).all():
        return index, *columns
    index, first = np.unique(index, return_index=True)
    return index, *(column[first] for column in columns)
