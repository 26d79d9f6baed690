"""Boxes in single precision, whatever precision networks compute in: bf16 counts pixels beyond 512 in fours."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


def boxes_in_single(anchors: nn.Module, *heads: nn.Module) -> None:
    """Have anchors, and all that heads say, in fp32 (fp64 stays), also under autocast.

    anchors: torchvision's AnchorGenerator, whose boxes have the precision of the maps that it is shown.
    heads: modules that give tensors (offsets of boxes, scores), or tuples and lists of such.
    """
    anchors.register_forward_pre_hook(_shown_in_single)
    for head in heads:
        head.register_forward_hook(_said_in_single)


def single(values: Any) -> Any:
    """A tensor, or tuples and lists of tensors, in fp32; fp64 stays."""
    if isinstance(values, Tensor):
        return values if values.dtype == torch.float64 else values.float()
    return type(values)(single(each) for each in values)


def _shown_in_single(_: nn.Module, inputs: tuple[Any, Sequence[Tensor]]) -> tuple[Any, Any]:
    images, maps = inputs
    return images, single(maps)


def _said_in_single(_: nn.Module, __: object, outputs: Any) -> Any:
    return single(outputs)
