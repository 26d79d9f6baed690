"""Copies of frozen networks whose weights are cast once, in place of anew in every step."""

import copy

import torch
from torch import nn


def cast_once(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy in which plain convolutions and linear layers hold their weights in `dtype`.

    Autocast casts these to it whenever they are used, and so computes the same from the copy, to the bit; all other
    layers keep their precision.
    """
    copied = copy.deepcopy(network)
    for module in copied.modules():
        if type(module) in (nn.Conv2d, nn.Linear):  # a subclass may compute with its weights itself
            module.to(dtype)
    return copied
