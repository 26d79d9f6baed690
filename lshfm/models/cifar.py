"""The published networks for images of 32 x 32 pixels; their backbones' weights keep the published names."""

from collections import OrderedDict
from collections.abc import Iterator
from functools import partial
from itertools import pairwise

from torch import Tensor, nn

from lshfm.checks import pick
from lshfm.errors import parameter
from lshfm.models.backbones import Design, init_convolutions
from lshfm.models.classifier import Classifier
from lshfm.models.units import (
    Bottleneck,
    DownUnit,
    GroupedUnit,
    InvertedResidual,
    SplitUnit,
    Units,
    convolution,
)

NARROW = (16, 16, 32, 64)  # widths of the stem and the three stages
WIDE = (32, 64, 128, 256)
VGG = {8: (1, 1, 1, 1, 1), 11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
VGG_WIDTHS = (3, 64, 128, 256, 512, 512)
# Of the inverted residuals: expansion, width, repeats, stride. The widths are halves, rounded down.
HALF = ((1, 8, 1, 1), (6, 12, 2, 1), (6, 16, 3, 2), (6, 32, 4, 2), (6, 48, 3, 1), (6, 80, 3, 2), (6, 160, 1, 1))
GROUPS = 3


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, its tensors named as torchvision's, whose import takes seconds."""

    def __init__(self, width_in: int, width: int, stride: int, shortcut: nn.Module | None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(B, width_in, H, W) -> (B, width, H / stride, W / stride)."""
        residual = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        residual += x if self.downsample is None else self.downsample(x)
        activated: Tensor = self.relu(residual)
        return activated


def _block(width_in: int, width: int, stride: int) -> BasicBlock:
    if stride == 1 and width_in == width:
        return BasicBlock(width, width, stride, None)
    shortcut = nn.Sequential(nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width))
    return BasicBlock(width_in, width, stride, shortcut)


def _stage(width_in: int, width: int, num_blocks: int, stride: int) -> nn.Sequential:
    rest = [_block(width, width, 1) for _ in range(num_blocks - 1)]
    return nn.Sequential(_block(width_in, width, stride), *rest)


def _stem(width: int, size: int = 3) -> "OrderedDict[str, nn.Module]":
    return OrderedDict(conv1=convolution(3, width, size), bn1=nn.BatchNorm2d(width), relu=nn.ReLU(inplace=True))


def _resnet(_arch: str, *, depth: int, widths: tuple[int, ...]) -> nn.Sequential:
    """He et al. 2016, section 4.2, with 1x1 convolutions as shortcuts."""
    num_blocks = (depth - 2) // 6
    layers = _stem(widths[0])
    for i, (width_in, width) in enumerate(pairwise(widths), start=1):
        layers[f"layer{i}"] = _stage(width_in, width, num_blocks, stride=1 if i == 1 else 2)
    return _started(layers)


def _resnet50(_arch: str) -> nn.Sequential:
    layers, width_in = _stem(64), 64
    for i, (width, num, stride) in enumerate(((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)), start=1):
        rest = [Bottleneck(4 * width, width, 1) for _ in range(num - 1)]
        layers[f"layer{i}"] = nn.Sequential(Bottleneck(width_in, width, stride), *rest)
        width_in = 4 * width
    return _started(layers)


def _wide_resnet(_arch: str, *, depth: int, factor: int) -> nn.Sequential:
    widths = (16, 16 * factor, 32 * factor, 64 * factor)
    layers: OrderedDict[str, nn.Module] = OrderedDict(conv1=convolution(3, 16, 3))
    for i, (width_in, width) in enumerate(pairwise(widths), start=1):
        layers[f"block{i}"] = Units(width_in, width, (depth - 4) // 6, 1 if i == 1 else 2)
    layers |= {"bn1": nn.BatchNorm2d(widths[-1]), "relu": nn.ReLU(inplace=True)}
    return _started(layers)


def _vgg(_arch: str, *, depth: int) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i, (num, (width_in, width)) in enumerate(zip(VGG[depth], pairwise(VGG_WIDTHS), strict=True)):
        inner = [layer for j in range(num) for layer in _vgg_layer(width if j else width_in, width)]
        layers[f"block{i}"] = nn.Sequential(*inner)
        if i < 3:
            layers[f"pool{i}"] = nn.MaxPool2d(2)
    return _started(layers)


def _vgg_layer(width_in: int, width: int) -> Iterator[nn.Module]:
    yield nn.Conv2d(width_in, width, 3, padding=1)
    yield nn.BatchNorm2d(width)
    yield nn.ReLU(inplace=True)


def _mobilenet(_arch: str) -> nn.Sequential:
    blocks, width_in = [], 16
    for expansion, width, repeats, stride in HALF:
        rest = [InvertedResidual(width, width, expansion, 1) for _ in range(repeats - 1)]
        blocks.append(nn.Sequential(InvertedResidual(width_in, width, expansion, stride), *rest))
        width_in = width
    first = nn.Sequential(convolution(3, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
    last = nn.Sequential(convolution(width_in, 1280, 1), nn.BatchNorm2d(1280), nn.ReLU(inplace=True))
    return _started(OrderedDict(conv1=first, blocks=nn.Sequential(*blocks), conv2=last))


def _shuffle_v1(_arch: str) -> nn.Sequential:
    layers, width_in = _stem(24, 1), 24
    for i, (width, num) in enumerate(((240, 4), (480, 8), (960, 4)), start=1):
        down = GroupedUnit(width_in, width, 2, GROUPS, first=i == 1)
        layers[f"layer{i}"] = nn.Sequential(down, *(GroupedUnit(width, width, 1, GROUPS) for _ in range(num - 1)))
        width_in = width
    return nn.Sequential(layers)


def _shuffle_v2(_arch: str) -> nn.Sequential:
    layers, width_in = _stem(24, 1), 24
    for i, (width, num) in enumerate(((116, 3), (232, 7), (464, 3)), start=1):
        layers[f"layer{i}"] = nn.Sequential(DownUnit(width_in, width), *(SplitUnit(width) for _ in range(num)))
        width_in = width
    layers |= {"conv2": convolution(464, 1024, 1), "bn2": nn.BatchNorm2d(1024), "relu2": nn.ReLU(inplace=True)}
    return nn.Sequential(layers)


def _started(layers: "OrderedDict[str, nn.Module]") -> nn.Sequential:
    backbone = nn.Sequential(layers)
    init_convolutions(backbone)
    return backbone


_LAYERS, _BLOCKS = ("layer1", "layer2", "layer3"), ("block1", "block2", "block3")
_HALF_STAGES = ("blocks.1", "blocks.2", "blocks.4", "blocks.6")
CIFAR: dict[str, Design] = {
    **{
        f"resnet{depth}": Design(partial(_resnet, depth=depth, widths=NARROW), 64, stages=_LAYERS)
        for depth in (8, 14, 20, 32, 44, 56, 110)
    },
    "resnet8x4": Design(partial(_resnet, depth=8, widths=WIDE), 256, stages=_LAYERS),
    "resnet32x4": Design(partial(_resnet, depth=32, widths=WIDE), 256, stages=_LAYERS),
    "cifar_resnet50": Design(_resnet50, 2048, stages=(*_LAYERS, "layer4")),
    **{
        f"wrn_{depth}_{factor}": Design(
            partial(_wide_resnet, depth=depth, factor=factor), 64 * factor, zero_bias=True, stages=_BLOCKS
        )
        for depth in (16, 40)
        for factor in (1, 2)
    },
    **{
        f"vgg{depth}": Design(partial(_vgg, depth=depth), 512, linear_std=0.01, stages=(*_BLOCKS, "block4"))
        for depth in VGG
    },
    "cifar_mobilenet_v2": Design(_mobilenet, 1280, linear_std=0.01, stages=_HALF_STAGES),
    "ShuffleV1": Design(_shuffle_v1, 960, stages=_LAYERS),
    "ShuffleV2": Design(_shuffle_v2, 1024, stages=_LAYERS),
}


def cifar_classifier(arch: str, num_classes: int, pool: str = "GAP", projection: int | None = None) -> Classifier:
    """A network of `CIFAR` with fresh weights, started as published.

    Raises InputError for an unknown `arch` or `pool`, and for a `projection` that is no width.
    """
    return pick(parameter("arch"), arch, CIFAR).classifier(arch, num_classes, pool=pool, projection=projection)
