"""Recognises which of the project's networks a state dict belongs to, by its tensors' names and shapes."""

from collections.abc import Mapping

import torch

from lshfm.models.backbones import TORCHVISION, torchvision_classifier
from lshfm.models.cifar import CIFAR, cifar_classifier


def recognise(shapes: Mapping[str, torch.Size]) -> str | None:
    """The network whose backbone has exactly these tensors (batch counts aside), if there is one."""
    wanted = _without_counts(shapes)
    for names, build in ((CIFAR, cifar_classifier), (TORCHVISION, torchvision_classifier)):
        for arch in names:
            with torch.device("meta"):
                backbone = build(arch, num_classes=1).backbone
            if _without_counts({name: t.shape for name, t in backbone.state_dict().items()}) == wanted:
                return arch
    return None


def _without_counts(shapes: Mapping[str, torch.Size]) -> dict[str, torch.Size]:
    return {name: shape for name, shape in shapes.items() if not name.endswith("num_batches_tracked")}
