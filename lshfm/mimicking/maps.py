"""Whether losses on maps can compare a student with a teacher, told before anything is computed or written."""

from typing import Any

import torch
from torch import Tensor, nn

from lshfm.config.build import build
from lshfm.config.groups import MimicLoss
from lshfm.objectives.mimic import require_maps


def check_maps(loss: MimicLoss, student: nn.Module, teacher: nn.Module, size: int) -> None:
    """Raise InputError where a chosen loss compares maps that the networks lack, or that do not fit each other.

    Both networks are on the CPU, and see one black image (size, size).
    """
    nodes = [node for each in loss.chosen.values() if each.kind == "map" for node in each.terms.values()]
    if nodes:
        require_maps(student, teacher)
        maps = [_maps(network, size) for network in (student, teacher)]
        for node in nodes:
            build(node, at="loss")(*maps)


@torch.no_grad()
def _maps(network: Any, size: int) -> list[Tensor]:
    training = network.training
    network.eval()
    maps: list[Tensor] = network.maps(torch.zeros(1, 3, size, size))[0]
    network.train(training)
    return maps
