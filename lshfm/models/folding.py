"""Layers that can be multiplied into their neighbours, for networks that are not trained any further."""

import copy
from typing import TypeVar

import torch
from torch import nn

from lshfm.models.classifier import Classifier
from lshfm.models.timm_backbone import TimmClassifier

M = TypeVar("M", bound=nn.Module)


def fold_projection(network: M) -> M:
    """A copy without the projection, which is multiplied into the classifier; its feature is the raw one.

    Exact but for rounding: both are linear, with a dropout between them that does nothing in evaluation. A network of
    another class, or without a projection, is copied as it is.
    """
    folded = copy.deepcopy(network)
    if not isinstance(folded, Classifier | TimmClassifier) or folded.projection is None:
        return folded
    layer = _product(folded.projection, folded.classifier)
    if isinstance(folded, Classifier):
        folded.classifier = layer
    else:
        name = next(name for name, module in folded.network.named_modules() if module is folded.classifier)
        folded.network.set_submodule(name, layer)
    folded.projection = None
    folded.num_features = folded.raw_features
    return folded


def _product(first: nn.Linear, second: nn.Linear) -> nn.Linear:
    """One layer that does what two do, computed in float64."""
    weight = second.weight.double() @ first.weight.double()
    bias = second.bias.double() + second.weight.double() @ first.bias.double()
    layer = nn.Linear(first.in_features, second.out_features, dtype=first.weight.dtype)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer


def fold_batch_norm(network: nn.Module) -> nn.Module | None:
    """A copy in eval mode whose BatchNorm is multiplied into the convolutions before it; None if fx cannot trace it."""
    from torch.fx.experimental.optimization import fuse

    try:
        return fuse(copy.deepcopy(network).eval())
    except Exception:  # noqa: BLE001 - whatever a network's own code does when it is traced
        return None
