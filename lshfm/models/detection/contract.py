"""What every detector offers beside torchvision's own `detector(images) -> detections`: training with features.

A detector has `num_features`, the width D of what is mimicked, and `classifier`, the layer that gives class scores
from it. `learn(images, targets)` is a training pass: its losses, its features, and what a teacher needs to give
features of the same places, which is what `features` is called with.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

Target = dict[str, Tensor]  # boxes (n, 4) float32 in the image's pixels, labels (n,) int64 from 1


class Draw(Protocol):
    """What chance decides of an image in training, drawn by (seed, epoch, image) wherever the image is trained on."""

    @property
    def size(self) -> int: ...  # of its shorter side
    @property
    def seed(self) -> int: ...  # of the anchors and proposals that the losses are sampled from


@dataclass(frozen=True)
class Places:
    """Where features are taken: a batch as the student's transform made it, and boxes in it."""

    pixels: Tensor  # (B, 3, H, W), resized and padded
    sizes: list[tuple[int, int]]  # of each image without the padding, (height, width)
    boxes: list[Tensor] = field(default_factory=list)  # (r, 4) for each image; none for detectors without proposals


@dataclass(frozen=True)
class Seen:
    """What a detector made of a training batch.

    features: (R, D) of boxes, or maps (B, C, h, w) of each level whose 3x3 windows are the features. kept, matched:
    bool, which features are mimicked as published, and which of these see an object: (R,), or (B, h, w) for each map.
    """

    losses: dict[str, Tensor]  # scalars by torchvision's names
    features: Tensor | list[Tensor]
    kept: Tensor | list[Tensor]
    matched: Tensor | list[Tensor]
    places: Places


class Detector(Protocol):
    """A network of this room, in training."""

    @property
    def num_features(self) -> int: ...
    def learn(self, images: Sequence[Tensor], targets: Sequence[Target], draws: Sequence[Draw]) -> Seen: ...
    def features(self, places: Places) -> Tensor | list[Tensor]: ...
