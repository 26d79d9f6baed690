"""Resizing and padding of a batch as torchvision does it, each image to a size that is given instead of drawn."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from lshfm.models.detection.contract import Draw, Target

LONGEST = 5 / 3  # longer side over shorter, at most: 1333 for 800


def longest_side(size: int) -> int:
    """The most pixels of the longer side where the shorter one may have `size`: 1333 for 800, as published."""
    return int(size * LONGEST)


class Resize(GeneralizedRCNNTransform):  # type: ignore[misc]
    """Shorter sides become `size` (bilinear), unless the longer one would exceed `longest_side`; images are padded.

    Pixels come normalised. In training every image has a size of its own.
    """

    def __init__(self, size: int) -> None:
        super().__init__(size, longest_side(size), image_mean=[0.0] * 3, image_std=[1.0] * 3)
        self._sizes: Iterator[int] = iter(())

    def normalize(self, image: Tensor) -> Tensor:
        """Pixels are normalised already."""
        return image

    def torch_choice(self, k: list[int]) -> int:  # noqa: ARG002
        """The size of the next image."""
        return next(self._sizes)

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor] | None]:
        """An image (3, h, w) in its new size, and its boxes, which torchvision's would make the host wait for on a GPU.

        Of sides that would vanish a pixel is left.
        """
        self.fixed_size = _of_thin(image.shape[-2], image.shape[-1], self.max_size)
        scaled, _ = super().resize(image)
        if target is not None:
            new, old = (torch.tensor(each.shape[-2:], dtype=torch.float32) for each in (scaled, image))
            down, across = (new / old).tolist()
            boxes = target["boxes"].clone()
            boxes[:, 0::2] *= across
            boxes[:, 1::2] *= down
            target["boxes"] = boxes
        return scaled, target

    def resized(
        self, images: Sequence[Tensor], targets: Sequence[Target], draws: Sequence[Draw]
    ) -> tuple[ImageList, list[dict[str, Any]]]:
        """A training batch, image i with the shorter side that it drew."""
        assert len(images) == len(targets) == len(draws)
        self._sizes = iter([draw.size for draw in draws])
        batch, scaled = self(list(images), list(targets))
        return batch, scaled


def _of_thin(height: int, width: int, longest: int) -> tuple[int, int] | None:
    """The new width and height of an image whose shorter side would vanish; None for others, and in tracing."""
    is_traced = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    if is_traced or max(height, width) < longest * min(height, width):
        return None
    return (1, longest) if height > width else (longest, 1)
