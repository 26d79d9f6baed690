"""BatchNorm's running statistics taken anew from images."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def renew_statistics(network: nn.Module, images: Iterable[Tensor]) -> None:
    """Set running means and variances to the means over batches (B, 3, S, S) of what BatchNorm sees in training.

    Nothing else of the network changes; one without BatchNorm is left as it is.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    if not layers:
        return
    with _averaging(network, layers):
        for batch in images:
            network(batch)


@contextmanager
def _averaging(network: nn.Module, layers: list[_BatchNorm]) -> Iterator[None]:
    """BatchNorm alone in train mode, with a plain mean over all batches in place of a moving one."""
    modes = [(module, module.training) for module in network.modules()]
    momenta = [layer.momentum for layer in layers]
    network.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
        layer.train()
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for module, mode in modes:
            module.training = mode
