"""RandAugment (Cubuk et al. 2020, arXiv 1909.13719) with torchvision's operations and scales, keyed by sample."""

import math
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import functional as F

from lshfm.checks import is_whole
from lshfm.datasets import keyed
from lshfm.datasets.keyed import Stream
from lshfm.datasets.split import Pixels
from lshfm.errors import InputError, parameter

STRONGEST = 30  # magnitude at which an operation is as strong as it can be
Operation = Callable[[Image.Image, float], Image.Image]  # the second: strength with its sign, from -1 to 1


def _sheared(image: Image.Image, across: float, down: float) -> Image.Image:
    angles = [math.degrees(math.atan(0.3 * each)) for each in (across, down)]
    return F.affine(image, 0.0, [0, 0], 1.0, angles, center=[0, 0])  # type: ignore[no-any-return]


def _moved(image: Image.Image, across: float, down: float) -> Image.Image:
    shifts = [int(150 / 331 * side * each) for side, each in zip(image.size, (across, down), strict=True)]
    return F.affine(image, 0.0, shifts, 1.0, [0.0, 0.0])  # type: ignore[no-any-return]


OPERATIONS: dict[str, Operation] = {
    "Identity": lambda image, _: image,
    "ShearX": lambda image, m: _sheared(image, m, 0.0),
    "ShearY": lambda image, m: _sheared(image, 0.0, m),
    "TranslateX": lambda image, m: _moved(image, m, 0.0),
    "TranslateY": lambda image, m: _moved(image, 0.0, m),
    "Rotate": lambda image, m: F.rotate(image, 30 * m),
    "Brightness": lambda image, m: F.adjust_brightness(image, 1 + 0.9 * m),
    "Color": lambda image, m: F.adjust_saturation(image, 1 + 0.9 * m),
    "Contrast": lambda image, m: F.adjust_contrast(image, 1 + 0.9 * m),
    "Sharpness": lambda image, m: F.adjust_sharpness(image, 1 + 0.9 * m),
    "Posterize": lambda image, m: F.posterize(image, 8 - round(4 * abs(m))),
    "Solarize": lambda image, m: F.solarize(image, 255 * (1 - abs(m))),
    "AutoContrast": lambda image, _: F.autocontrast(image),
    "Equalize": lambda image, _: F.equalize(image),
}


@dataclass(frozen=True)
class RandAugmented:
    """A loader's source whose pictures go through `num` operations each, of one magnitude, drawn for every epoch.

    The operations come before padding, crop back and flip, in the process that trains. Raises InputError for a number
    or a magnitude that is none.
    """

    source: Any  # a PixelSource
    num: int
    magnitude: int = 9
    seed: int = 0
    epoch: int = 0

    def __post_init__(self) -> None:
        if not is_whole(self.num) or self.num < 1:
            raise InputError(f"{parameter('randaugment')}={self.num} is not a whole number above 0")
        if not is_whole(self.magnitude) or not 0 <= self.magnitude <= STRONGEST:
            raise InputError(f"{parameter('magnitude')}={self.magnitude} is not a whole number from 0 to {STRONGEST}")

    def __len__(self) -> int:
        return len(self.source)

    @property
    def plain(self) -> Any:
        """The pictures as they are."""
        return getattr(self.source, "plain", self.source)

    def of_epoch(self, seed: int, epoch: int) -> Self:
        """The same, with an epoch's operations."""
        of_epoch = getattr(self.source, "of_epoch", None)
        source = of_epoch(seed, epoch) if of_epoch else self.source
        return replace(self, source=source, seed=seed, epoch=epoch)

    def stream(self, batches: Iterable[NDArray[np.int64]]) -> Generator[Pixels, None, None]:
        """Uint8 (B, S, S, 3) for each array of indices."""
        steps = list(batches)
        for index, pixels in zip(steps, self.source.stream(steps), strict=True):
            yield np.stack([self._changed(image, int(i)) for i, image in zip(index, pixels, strict=True)])

    def _changed(self, pixels: Pixels, index: int) -> Pixels:
        image = Image.fromarray(pixels)
        for operation, strength in self.drawn(index):
            image = OPERATIONS[operation](image, strength)
        return np.array(image)

    def drawn(self, index: int) -> list[tuple[str, float]]:
        """The operations of one picture with their strengths."""
        streams = Stream.RANDAUGMENT + np.arange(2 * self.num)
        which, sign = keyed.uniform(self.seed, self.epoch, index, streams).reshape(2, self.num)
        names = list(OPERATIONS)
        strengths = np.where(sign < 0.5, -1, 1) * self.magnitude / STRONGEST
        return [(names[int(w * len(names))], float(s)) for w, s in zip(which, strengths, strict=True)]
