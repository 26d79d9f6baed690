"""Cutting an order of samples into batches, and those into the shares of ranks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Index = NDArray[np.int64]


def batches(order: Index, batch_size: int, drop_last: bool, last_multiple: int | None = None) -> Sequence[Index]:
    """The order cut into batches; the last one may be smaller, and goes if `drop_last`, but for a `last_multiple`."""
    unit = last_multiple or batch_size
    end = len(order) // unit * unit if drop_last else len(order)
    return [order[start : min(start + batch_size, end)] for start in range(0, end, batch_size)]


@dataclass(frozen=True)
class Share:
    """The part of a loader's work that belongs to rank `rank` of `num` ranks."""

    rank: int = 0
    num: int = 1

    def within(self, batches: Sequence[Index]) -> Sequence[Index]:
        """A part of every batch, as training needs it; `num` divides their sizes."""
        sizes = [len(batch) // self.num for batch in batches]
        return [batch[self.rank * n : (self.rank + 1) * n] for n, batch in zip(sizes, batches, strict=True)]

    def among(self, batches: Sequence[Index]) -> Sequence[Index]:
        """Some of the batches, whole: what is in one, and so its bits, do not depend on the number of ranks."""
        return batches[self.rank :: self.num]


ALL = Share()
