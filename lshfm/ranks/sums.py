"""Sums over the ranks within a training step."""

import torch.distributed as dist
from torch import Tensor

from lshfm.ranks.group import num_ranks


def total(value: Tensor) -> Tensor:
    """Sum over the ranks, on the tensor's own device: no rank's host waits for it."""
    if num_ranks() == 1:
        return value
    summed = value.clone()
    dist.all_reduce(summed)
    return summed
