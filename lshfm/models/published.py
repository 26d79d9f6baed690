"""The names that the published code gives to networks."""

import re

from lshfm.models.pooling import POOLING

# What the single-label code calls torchvision's networks, where that is another name.
_NAMES = {"ResNet18": "resnet18", "ResNet34": "resnet34", "ResNet101": "resnet101", "mobilenetv2": "mobilenet_v2"}


def published_arch(arch: str) -> tuple[str, str]:
    """Network and pooling of a published name: VGG without underscore, pooling as a suffix, none if GAP."""
    if arch in _NAMES:
        return _NAMES[arch], "GAP"
    stem, _, suffix = arch.rpartition("_")
    name, pool = (stem, suffix) if suffix in POOLING else (arch, "GAP")
    return re.sub(r"^(vgg\d+)bn$", r"\1_bn", name), pool
