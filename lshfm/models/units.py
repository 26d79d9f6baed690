"""Units of the networks for small images beside the basic block; their weights are called as the published ones."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def convolution(width_in: int, width: int, size: int, stride: int = 1, *, groups: int = 1) -> nn.Conv2d:
    """A convolution without bias that keeps the map's size but for its stride."""
    return nn.Conv2d(width_in, width, size, stride, size // 2, groups=groups, bias=False)


def shuffle(maps: Tensor, groups: int) -> Tensor:
    """Channels (B, C, h, w) dealt out over groups: seen as (groups, C / groups), transposed."""
    images, channels, height, width = maps.shape
    parted = maps.view(images, groups, channels // groups, height, width)
    return parted.transpose(1, 2).reshape(images, channels, height, width)


class Bottleneck(nn.Module):
    """1x1, 3x3 with the stride, 1x1 to four times the width, added to the input (He et al. 2016, arXiv 1512.03385)."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = convolution(width_in, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = convolution(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = convolution(width, 4 * width, 1), nn.BatchNorm2d(4 * width)
        is_equal = stride == 1 and width_in == 4 * width
        layers = () if is_equal else (convolution(width_in, 4 * width, 1, stride), nn.BatchNorm2d(4 * width))
        self.shortcut = nn.Sequential(*layers)

    def forward(self, maps: Tensor) -> Tensor:
        inner = F.relu(self.bn1(self.conv1(maps)))
        inner = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(inner)))))
        return F.relu(inner + self.shortcut(maps))


class PreActivated(nn.Module):
    """BatchNorm and ReLU come before each convolution (Zagoruyko, Komodakis 2016, arXiv 1605.07146).

    Where the width changes, the shortcut is a 1x1 convolution of the activated input, without BatchNorm.
    """

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(width_in), convolution(width_in, width, 3, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(width), convolution(width, width, 3)
        self.convShortcut = None if width_in == width else convolution(width_in, width, 1, stride)

    def forward(self, maps: Tensor) -> Tensor:
        active = F.relu(self.bn1(maps))
        inner = self.conv2(F.relu(self.bn2(self.conv1(active))))
        added: Tensor = inner + (maps if self.convShortcut is None else self.convShortcut(active))
        return added


class Units(nn.Module):
    """Pre-activated units one after the other, called `layer` in published weights."""

    def __init__(self, width_in: int, width: int, num: int, stride: int) -> None:
        super().__init__()
        rest = [PreActivated(width, width, 1) for _ in range(num - 1)]
        self.layer = nn.Sequential(PreActivated(width_in, width, stride), *rest)

    def forward(self, maps: Tensor) -> Tensor:
        result: Tensor = self.layer(maps)
        return result


class InvertedResidual(nn.Module):
    """1x1 to `expansion` times the width, 3x3 on each channel, 1x1 back (Sandler et al. 2018, arXiv 1801.04381).

    With plain ReLU, and the first convolution even where it does not widen.
    """

    def __init__(self, width_in: int, width: int, expansion: int, stride: int) -> None:
        super().__init__()
        inner = width_in * expansion
        self.is_residual = stride == 1 and width_in == width
        self.conv = nn.Sequential(
            convolution(width_in, inner, 1), nn.BatchNorm2d(inner), nn.ReLU(inplace=True),
            convolution(inner, inner, 3, stride, groups=inner), nn.BatchNorm2d(inner), nn.ReLU(inplace=True),
            convolution(inner, width, 1), nn.BatchNorm2d(width),
        )  # fmt: skip

    def forward(self, maps: Tensor) -> Tensor:
        inner: Tensor = self.conv(maps)
        return maps + inner if self.is_residual else inner


class GroupedUnit(nn.Module):
    """ShuffleNet's unit (Zhang et al. 2018, arXiv 1707.01083); with stride 2 its input is appended, pooled.

    width: of the result, which with stride 2 holds `width_in` channels of the input. first: whether its first
    convolution, and with it the shuffle, has no groups. The pool counts the zeros beside the map.
    """

    def __init__(self, width_in: int, width: int, stride: int, groups: int, *, first: bool = False) -> None:
        super().__init__()
        self.stride, self.groups = stride, 1 if first else groups
        own = width - width_in if stride == 2 else width
        inner = own // 4
        self.conv1, self.bn1 = convolution(width_in, inner, 1, groups=self.groups), nn.BatchNorm2d(inner)
        self.conv2, self.bn2 = convolution(inner, inner, 3, stride, groups=inner), nn.BatchNorm2d(inner)
        self.conv3, self.bn3 = convolution(inner, own, 1, groups=groups), nn.BatchNorm2d(own)

    def forward(self, maps: Tensor) -> Tensor:
        inner = shuffle(F.relu(self.bn1(self.conv1(maps))), self.groups)
        inner = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(inner)))))
        if self.stride == 1:
            return F.relu(inner + maps)
        return F.relu(torch.cat([inner, F.avg_pool2d(maps, 3, 2, 1)], dim=1))


class SplitUnit(nn.Module):
    """ShuffleNet V2's unit (Ma et al. 2018, arXiv 1807.11164): one half passes untouched, then both are shuffled."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.conv1, self.bn1 = convolution(half, half, 1), nn.BatchNorm2d(half)
        self.conv2, self.bn2 = convolution(half, half, 3, groups=half), nn.BatchNorm2d(half)
        self.conv3, self.bn3 = convolution(half, half, 1), nn.BatchNorm2d(half)

    def forward(self, maps: Tensor) -> Tensor:
        kept, inner = maps.chunk(2, dim=1)
        inner = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(inner)))))
        return shuffle(torch.cat([kept, F.relu(self.bn3(self.conv3(inner)))], dim=1), 2)


class DownUnit(nn.Module):
    """ShuffleNet V2's unit with stride 2: both of its ways work on the whole input, each to half the width."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        half = width // 2
        self.conv1, self.bn1 = convolution(width_in, width_in, 3, 2, groups=width_in), nn.BatchNorm2d(width_in)
        self.conv2, self.bn2 = convolution(width_in, half, 1), nn.BatchNorm2d(half)
        self.conv3, self.bn3 = convolution(width_in, half, 1), nn.BatchNorm2d(half)
        self.conv4, self.bn4 = convolution(half, half, 3, 2, groups=half), nn.BatchNorm2d(half)
        self.conv5, self.bn5 = convolution(half, half, 1), nn.BatchNorm2d(half)

    def forward(self, maps: Tensor) -> Tensor:
        left = F.relu(self.bn2(self.conv2(self.bn1(self.conv1(maps)))))
        right = self.bn4(self.conv4(F.relu(self.bn3(self.conv3(maps)))))
        right = F.relu(self.bn5(self.conv5(right)))
        return shuffle(torch.cat([left, right], dim=1), 2)
