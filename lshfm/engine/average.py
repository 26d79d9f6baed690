"""The mean of the weights at the ends of a run's last epochs."""

from typing import Any

import torch
from torch import Tensor, nn


class WeightAverage:
    """Mean of all entries of a network's state over the ends of the last `length` of `epochs` epochs.

    Sums are float64 copies, and divided by the number that was added, so that the mean is the true one whatever the
    order of a run's parts; integer entries, as BatchNorm's counts, take the last value.
    """

    def __init__(self, length: int, epochs: int) -> None:
        self.length, self.epochs = length, epochs
        self.added: list[int] = []  # epochs, from 1
        self._sums: dict[str, Tensor] = {}

    @property
    def count(self) -> int:
        """Epochs in the mean."""
        return len(self.added)

    def add(self, epoch: int, network: nn.Module) -> None:
        """Count in the network at the end of an epoch, from 1, if that is among the last."""
        if epoch <= self.epochs - self.length or epoch in self.added:  # done again, to be evaluated
            return
        if self.added and self.added[0] <= self.epochs - self.length:  # of a shorter plan, which this run goes beyond
            self.added, self._sums = [], {}
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                values = tensor.detach().to(torch.float64, copy=True)
                self._sums[name] = self._sums[name].to(values.device) + values if name in self._sums else values
            else:
                self._sums[name] = tensor.detach().clone()
        self.added.append(epoch)

    def mean(self, like: nn.Module) -> dict[str, Tensor]:
        """The mean as a state of the network `like`, in its precisions."""
        assert self.added
        of_network = like.state_dict()
        return {
            name: (total / self.count if total.is_floating_point() else total).to(of_network[name])
            for name, total in self._sums.items()
        }

    def bytes_of(self, network: nn.Module) -> int:
        """What the sums over a network take."""
        tensors = network.state_dict().values()
        return sum(8 * each.numel() if each.is_floating_point() else each.nbytes for each in tensors)

    def state_dict(self) -> dict[str, Any]:
        """Plain containers and tensors."""
        return {"added": list(self.added), "sums": dict(self._sums)}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore what `state_dict` gave. Copied: the tensors lie in a mapped file."""
        self.added = list(saved["added"])
        self._sums = {name: tensor.clone() for name, tensor in saved["sums"].items()}
