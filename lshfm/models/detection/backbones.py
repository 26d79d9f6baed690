"""Feature extractors of detectors: ResNet, VGG without BatchNorm and MobileNetV2, as one map or as a pyramid (FPN)."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.models import mobilenet_v2, vgg
from torchvision.models.detection.backbone_utils import BackboneWithFPN, resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelP6P7

from lshfm.models.backbones import init_convolutions

Norm = Callable[[int], nn.Module]

# Where a VGG's pooling layers stand in torchvision's `features`, and the channels behind them.
POOLS = {"vgg11": (2, 5, 10, 15, 20), "vgg16": (4, 9, 16, 23, 30)}
CONFIGURATIONS = {"vgg11": "A", "vgg16": "D"}
VGG_WIDTHS = (64, 128, 256, 512, 512)
# The last layers of MobileNetV2 at strides 4, 8, 16 and 32.
MOBILENET_STAGES = (3, 6, 13, 18)
FROZEN_STAGES = 2


class FrozenNorm(FrozenBatchNorm2d):  # type: ignore[misc]
    """torchvision's in one pass over the maps, which keep their precision under autocast."""

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, h, w) to the same."""
        if maps.is_cuda or maps.dtype != self.weight.dtype:
            return F.batch_norm(maps, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        scale = self.weight * (self.running_var + self.eps).rsqrt()  # a CPU's batch_norm goes back more slowly
        shift = self.bias - self.running_mean * scale
        return torch.addcmul(shift[:, None, None], maps, scale[:, None, None])


def frozen_norm(eps: float) -> Norm:
    """BatchNorm whose statistics, weights and biases are constants."""
    return partial(FrozenNorm, eps=eps)


def resnet_pyramid(arch: str, norm: Norm, levels: Sequence[int], extra: ExtraFPNBlock | None) -> nn.Module:
    """A pyramid of 256 channels on layers 1-4 as `levels` says; stem and layer1 do not learn."""
    pyramid: nn.Module = resnet_fpn_backbone(
        backbone_name=arch, weights=None, norm_layer=norm, trainable_layers=3, returned_layers=list(levels),
        extra_blocks=extra,
    )  # fmt: skip
    return pyramid


def resnet_c4(arch: str) -> tuple[nn.Module, nn.Module]:
    """A ResNet up to layer3, and layer4 with its average pooling as a box head; stem and layer1 do not learn."""
    network = torchvision.models.get_model(arch, weights=None)
    trunk: nn.Module = nn.Sequential(*list(network.children())[:7])
    for part in (network.conv1, network.bn1, network.layer1):
        part.requires_grad_(False)
    trunk.out_channels = 1024  # type: ignore[assignment]
    return trunk, nn.Sequential(network.layer4, network.avgpool)


def vgg_map(arch: str, *, frozen: bool) -> nn.Module:
    """A VGG's convolutions without the last pooling, 512 channels at stride 16; the first stages may be frozen."""
    layers: nn.Module = _vgg_layers(arch, frozen=frozen)[: POOLS[arch][-1]]
    layers.out_channels = VGG_WIDTHS[-1]  # type: ignore[assignment]
    return layers


def vgg_pyramid(arch: str, levels: Sequence[int], extra: ExtraFPNBlock | None, channels: int) -> nn.Module:
    """A pyramid on a VGG's pooling layers, counted from 1; the first two stages do not learn."""
    chosen = {str(POOLS[arch][level - 1]): str(number) for number, level in enumerate(levels)}
    widths = [VGG_WIDTHS[level - 1] for level in levels]
    pyramid: nn.Module = BackboneWithFPN(_vgg_layers(arch, frozen=True), chosen, widths, channels, extra_blocks=extra)
    return pyramid


def mobilenet_pyramid(
    norm: Norm, levels: Sequence[int], extra: ExtraFPNBlock | None, channels: int, *, width: float, frozen: bool
) -> nn.Module:
    """A pyramid on MobileNetV2's maps at strides 4-32; `frozen`: its first two blocks do not learn."""
    features = mobilenet_v2(weights=None, width_mult=width, norm_layer=norm).features
    for block in features[: FROZEN_STAGES if frozen else 0]:
        block.requires_grad_(False)
    chosen = {str(MOBILENET_STAGES[level - 1]): str(number) for number, level in enumerate(levels)}
    widths = [features[int(name)].out_channels for name in chosen]
    pyramid: nn.Module = BackboneWithFPN(features, chosen, widths, channels, extra_blocks=extra)
    return pyramid


def two_more_levels(channels: int) -> ExtraFPNBlock:
    """RetinaNet's levels at strides 64 and 128, convolved from the pyramid's last one."""
    return LastLevelP6P7(channels, channels)


def _vgg_layers(arch: str, *, frozen: bool) -> nn.Sequential:
    # Built from its layers: torchvision's whole VGG would allocate and draw 120 million unused weights.
    layers: nn.Sequential = vgg.make_layers(vgg.cfgs[CONFIGURATIONS[arch]], batch_norm=False)
    init_convolutions(layers)
    if frozen:
        layers[: POOLS[arch][FROZEN_STAGES - 1] + 1].requires_grad_(False)
    return layers
