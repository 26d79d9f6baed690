"""The ResNets for small images (He et al. 2016, section 4.2), with 1x1 convolutions as shortcuts."""

from collections import OrderedDict

from torch import Tensor, nn

from lshfm.checks import pick
from lshfm.errors import parameter
from lshfm.models.backbones import init_convolutions
from lshfm.models.classifier import Classifier

NARROW = (16, 16, 32, 64)
WIDE = (32, 64, 128, 256)

# name -> depth, widths of the stem and the three stages
CIFAR: dict[str, tuple[int, tuple[int, int, int, int]]] = {
    **{f"resnet{depth}": (depth, NARROW) for depth in (8, 14, 20, 32, 44, 56, 110)},
    "resnet8x4": (8, WIDE),
    "resnet32x4": (32, WIDE),
}


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


def _backbone(depth: int, widths: tuple[int, int, int, int]) -> nn.Sequential:
    num_blocks = (depth - 2) // 6
    stem, *stages = widths
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(3, stem, 3, padding=1, bias=False),
        bn1=nn.BatchNorm2d(stem),
        relu=nn.ReLU(inplace=True),
    )
    for i, (width_in, width) in enumerate(zip(widths, stages, strict=False), start=1):
        layers[f"layer{i}"] = _stage(width_in, width, num_blocks, stride=1 if i == 1 else 2)
    backbone = nn.Sequential(layers)
    init_convolutions(backbone)
    return backbone


def cifar_classifier(arch: str, num_classes: int, pool: str = "GAP", projection: int | None = None) -> Classifier:
    """A network of `CIFAR` with fresh weights; its raw feature is 64 wide, 256 for the x4 networks.

    Raises InputError for an unknown `arch` or `pool`, and for a `projection` that is no width.
    """
    depth, widths = pick(parameter("arch"), arch, CIFAR)
    return Classifier(arch, _backbone(depth, widths), widths[-1], num_classes, pool=pool, projection=projection)
