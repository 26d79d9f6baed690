"""Networks on torchvision's backbones, without its classifiers; the weights keep torchvision's names."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from lshfm.checks import pick
from lshfm.errors import parameter
from lshfm.models.classifier import Classifier


def init_convolutions(module: nn.Module) -> None:
    """Kaiming normal weights (fan-out) and zero biases; BatchNorm layers are born as 1 and 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _torchvision(arch: str) -> Any:
    """The network as torchvision builds it. Imported here: it takes seconds, and not every run has such a network."""
    import torchvision

    return torchvision.models.get_model(arch, weights=None)


def _resnet(arch: str) -> nn.Module:
    network = _torchvision(arch)
    return nn.Sequential(OrderedDict(list(network.named_children())[:-2]))  # less avgpool and fc


def _mobilenet(arch: str) -> nn.Module:
    return nn.Sequential(OrderedDict(features=_torchvision(arch).features))


def _vgg(arch: str) -> nn.Module:
    from torchvision.models import vgg

    # Built from its layers: torchvision's whole VGG would allocate and draw 120 million unused weights.
    layers = vgg.make_layers(vgg.cfgs[{"vgg16_bn": "D", "vgg19_bn": "E"}[arch]], batch_norm=True)
    init_convolutions(layers)
    return nn.Sequential(OrderedDict(features=layers))


@dataclass(frozen=True)
class Design:
    """How to build a backbone, the channels of its feature map, and how its classifier starts.

    zero_bias: whether classifier and projection start without bias. stages: as Classifier has them.
    """

    backbone: Callable[[str], nn.Module]
    width: int
    dropout: float = 0.0
    linear_std: float | None = None
    zero_bias: bool = False
    stages: tuple[str, ...] = ()

    def classifier(self, arch: str, num_classes: int, *, pool: str, projection: int | None) -> Classifier:
        """The whole network, with fresh weights."""
        network = Classifier(
            arch, self.backbone(arch), self.width, num_classes, pool=pool, projection=projection,
            dropout=self.dropout, linear_std=self.linear_std, stages=self.stages,
        )  # fmt: skip
        for head in network.heads.values() if self.zero_bias else ():
            nn.init.zeros_(head.bias)
        return network


RESNET_STAGES = ("layer1", "layer2", "layer3", "layer4")
MOBILENET_STAGES = ("features.3", "features.6", "features.13", "features.17")  # of the ResNets' sizes
TORCHVISION: dict[str, Design] = {
    "resnet18": Design(_resnet, 512, stages=RESNET_STAGES),
    "resnet34": Design(_resnet, 512, stages=RESNET_STAGES),
    "resnet50": Design(_resnet, 2048, stages=RESNET_STAGES),
    "resnet101": Design(_resnet, 2048, stages=RESNET_STAGES),
    "mobilenet_v2": Design(_mobilenet, 1280, dropout=0.2, linear_std=0.01, stages=MOBILENET_STAGES),
    "vgg16_bn": Design(_vgg, 512, linear_std=0.01),
    "vgg19_bn": Design(_vgg, 512, linear_std=0.01),
}


def torchvision_classifier(arch: str, num_classes: int, pool: str = "GAP", projection: int | None = None) -> Classifier:
    """A network of `TORCHVISION` with fresh weights; nothing is downloaded.

    VGG here is its convolutions, the pooling and one linear layer, without torchvision's 4096-wide layers.
    Raises InputError for an unknown `arch` or `pool`, and for a `projection` that is no width.
    """
    return pick(parameter("arch"), arch, TORCHVISION).classifier(arch, num_classes, pool=pool, projection=projection)
