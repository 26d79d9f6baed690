"""The moving average of a network's weights."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class MovingAverage(AveragedModel):
    """Exponential moving average of weights and buffers; the first update copies them.

    As torch's, but for its updates: they ask no tensor for a number, which on a GPU would make the host wait.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        average = get_ema_multi_avg_fn(decay)
        super().__init__(model, multi_avg_fn=average, use_buffers=True)
        self.has_begun = False

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """As every module's."""
        loaded = super().load_state_dict(*args, **kwargs)
        self.has_begun = bool(self.n_averaged > 0)
        return loaded

    def average(self, model: nn.Module) -> None:
        """Take in the model's weights, without counting them."""
        for ours, theirs in _by_dtype(self.module, model):
            if self.has_begun:
                assert self.multi_avg_fn
                self.multi_avg_fn(ours, theirs, self.n_averaged)
            else:
                torch._foreach_copy_(ours, theirs)

    def count(self) -> None:
        """One more was taken in."""
        self.n_averaged += 1
        self.has_begun = True

    def update_parameters(self, model: nn.Module) -> None:
        """Take in the model's weights."""
        self.average(model)
        self.count()


def _by_dtype(average: nn.Module, model: nn.Module) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """Tensors of the average and of the model, those of one type at a time."""
    groups: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
    for ours, theirs in zip(_tensors(average), _tensors(model), strict=True):
        pair = groups.setdefault(ours.dtype, ([], []))
        pair[0].append(ours)
        pair[1].append(theirs)
    yield from groups.values()


def _tensors(module: nn.Module) -> list[Tensor]:
    return [tensor.detach() for tensor in (*module.parameters(), *module.buffers())]
