"""The names that other libraries give to the weights of the same network, and of the published code."""

import re
from collections.abc import Mapping

from torch import Tensor, nn

from lshfm.models.backbones import TORCHVISION
from lshfm.models.cifar import CIFAR
from lshfm.models.classifier import Classifier
from lshfm.models.pooling import GAP
from lshfm.models.timm_backbone import TimmClassifier

State = dict[str, Tensor]
_TIMM_ARCH = {"mobilenet_v2": "mobilenetv2_100"}
# MobileNetV2's blocks in timm: how many in each stage, and what stands behind a block's name in torchvision's list.
_STAGES = (1, 2, 3, 4, 3, 3, 1)
_FIRST_BLOCK = {"conv.0.0": "conv_dw", "conv.0.1": "bn1", "conv.1": "conv_pw", "conv.2": "bn2"}
_BLOCK = {
    "conv.0.0": "conv_pw", "conv.0.1": "bn1", "conv.1.0": "conv_dw", "conv.1.1": "bn2", "conv.2": "conv_pwl",
    "conv.3": "bn3",
}  # fmt: skip
# What the networks for small images call their classifier, where that is not "fc."; MobileNetV2's is a list of one.
_CIFAR_HEADS = {
    "vgg": "classifier.", "cifar_resnet": "linear.", "ShuffleV": "linear.", "cifar_mobilenet_v": "classifier.0.",
}  # fmt: skip
LAYOUTS = ("torchvision", "timm", "published")


def why_not(layout: str, network: nn.Module) -> str | None:
    """Why a network has no counterpart in another library, as a clause; None where it has one."""
    if getattr(network, "projection", None) is not None and layout != "published":
        return "it has a projection before its classifier (feature=true keeps it; without, it is folded in)"
    if layout == "timm" and isinstance(network, TimmClassifier):
        return None
    arch = getattr(network, "arch", type(network).__name__)
    if layout == "published" and isinstance(network, Classifier) and arch in CIFAR:
        kind = type(network.pool)
        return None if kind is GAP else f"the published {arch} pools by the mean alone, this one by {kind.__name__}"
    if not isinstance(network, Classifier) or arch not in TORCHVISION:
        return f"{layout} has no network like {arch}"
    if layout == "published":
        return None
    if layout == "torchvision":
        if arch.startswith("vgg"):
            return f"torchvision's {arch} has three wide layers behind its convolutions, this one has one"
        kind = type(network.pool)
        return None if kind is GAP else f"torchvision's {arch} pools by the mean alone, this one by {kind.__name__}"
    return None if arch.startswith(("resnet", "mobilenet")) else f"timm's {arch} is built in another way"


def arch_there(layout: str, network: nn.Module) -> str:
    """What a library calls the network's design."""
    arch = str(getattr(network, "arch", type(network).__name__))
    return _TIMM_ARCH.get(arch, arch) if layout == "timm" else arch


def other_names(layout: str, network: nn.Module) -> dict[str, str]:
    """Own name -> the library's, for all of a network's weights; the network has a counterpart there."""
    return {name: _other_name(layout, name, network) for name in network.state_dict()}


def _other_name(layout: str, name: str, network: nn.Module) -> str:
    if isinstance(network, TimmClassifier):
        return name.removeprefix("network.")
    arch = str(getattr(network, "arch", ""))
    is_mobile = arch.startswith("mobilenet")
    heads = {"torchvision": "classifier.1.", "timm": "classifier.", "published": "classifier."}
    head = heads[layout] if is_mobile else _small_head(arch)
    projected = re.sub(r"^projection\.", "feat_fc.", name)
    theirs = re.sub(r"^classifier\.", head, projected).removeprefix("backbone.")
    return _timm_mobilenet(theirs) if is_mobile and layout == "timm" else theirs


def _small_head(arch: str) -> str:
    """What a network for small images calls its classifier; "fc." for all others."""
    return next((head for start, head in _CIFAR_HEADS.items() if arch in CIFAR and arch.startswith(start)), "fc.")


def _timm_mobilenet(name: str) -> str:
    """A name of torchvision's MobileNetV2, features.4.conv.1.0.weight, in timm's: blocks.2.0.conv_dw.weight."""
    if not name.startswith("features."):
        return name
    number, _, rest = name.removeprefix("features.").partition(".")
    layer, _, kind = rest.rpartition(".")
    ends = {"0": ("conv_stem", "bn1"), str(sum(_STAGES) + 1): ("conv_head", "bn2")}
    if number in ends:
        return f"{ends[number][int(layer)]}.{kind}"
    stage, block = [(stage, block) for stage, num in enumerate(_STAGES) for block in range(num)][int(number) - 1]
    return f"blocks.{stage}.{block}.{(_BLOCK if stage else _FIRST_BLOCK)[layer]}.{kind}"


def renamed(state: Mapping[str, Tensor], names: Mapping[str, str]) -> State:
    """The state under the names that `names` gives; a tensor that it does not name keeps its own."""
    return {names.get(name, name): tensor for name, tensor in state.items()}


def own_names(layout: str, network: nn.Module, state: Mapping[str, Tensor]) -> State:
    """A library's state under a network's own names."""
    back = {theirs: own for own, theirs in other_names(layout, network).items()}
    return renamed(state, back)


def library_of(network: nn.Module) -> str:
    """The library under whose names a network's weights are best shipped: its own one, else lshfm."""
    wanted = ("timm",) if isinstance(network, TimmClassifier) else ("torchvision",)
    return next((layout for layout in wanted if why_not(layout, network) is None), "lshfm")
