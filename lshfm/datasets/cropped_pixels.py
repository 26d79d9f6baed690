"""A loader's source of pictures of which every epoch sees other parts."""

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lshfm.checks import is_number
from lshfm.datasets.decode import decode
from lshfm.datasets.loader import DecodedPixels
from lshfm.datasets.random_crop import crop_batch
from lshfm.datasets.split import Images, Pixels
from lshfm.errors import InputError, parameter


@dataclass(frozen=True)
class CroppedPixels:
    """A random part of each picture, as the source of a loader; `of_epoch` sets the parts.

    area: smallest and largest share of a picture's area. workers, advice: as in DecodedPixels. pictures: what is
    cropped, if not `images`. run: what does the work, `decode` in processes or `in_threads`. Raises InputError for
    pictures that come without their own size, and for shares that are none.
    """

    images: Images
    size: int
    area: tuple[float, float]
    workers: int = 0
    advice: str = "Mend it"
    seed: int = 0
    epoch: int = 0
    pictures: Any = None
    run: Callable[..., Generator[Pixels | str, None, None]] = decode

    def __post_init__(self) -> None:
        low, high = self.area
        if not (is_number(low) and is_number(high) and 0 < low <= high <= 1):
            raise InputError(f"{parameter('area')}={list(self.area)}: two shares of a picture's area, from 0 to 1")
        if not hasattr(self.images, "picture"):
            raise InputError(f"{parameter('area')}={list(self.area)} crops pictures in files; this data set has none")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def plain(self) -> DecodedPixels:
        """The pictures without a crop."""
        return DecodedPixels(self.images, self.size, self.workers, self.advice)

    def of_epoch(self, seed: int, epoch: int) -> Self:
        """The same, with an epoch's crops."""
        return replace(self, seed=seed, epoch=epoch)

    def stream(self, batches: Iterable[NDArray[np.int64]]) -> Generator[Pixels, None, None]:
        """Uint8 (B, S, S, 3) for each array of indices. InputError: a broken picture."""
        work = partial(crop_batch, size=self.size, area=self.area, seed=self.seed, epoch=self.epoch)
        pictures = self.images if self.pictures is None else self.pictures
        for pixels in self.run(pictures, work, batches, self.workers):
            if isinstance(pixels, str):
                raise InputError(f"{pixels}\n{self.advice}")
            yield pixels
