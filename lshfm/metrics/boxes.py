"""Boxes of objects, true and found, as flat arrays over a whole data set.

Boxes are (x1, y1, x2, y2) in pixels, half open: x2 - x1 is the width, the devkit's widths "+ 1" over pixel numbers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
Coordinates = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Truth:
    """Annotated objects (g,) of images numbered from 0, of classes numbered from 0."""

    image: Numbers
    label: Numbers
    box: Coordinates  # (g, 4)
    difficult: Flags
    crowd: Flags  # stands for many objects of its class
    area: Coordinates  # (g,) in pixels: of the mask, where that is known

    def __len__(self) -> int:
        return len(self.image)

    def at(self, chosen: NDArray[Any]) -> Self:
        """Some of the objects."""
        return type(self)(*(column[chosen] for column in vars(self).values()))


@dataclass(frozen=True, eq=False)
class Found:
    """Detections (d,) with their scores; images and classes are numbered as the truth's."""

    image: Numbers
    label: Numbers
    box: Coordinates  # (d, 4)
    score: Coordinates

    def __len__(self) -> int:
        return len(self.image)

    def at(self, chosen: NDArray[Any]) -> Self:
        """Some of the detections."""
        return type(self)(*(column[chosen] for column in vars(self).values()))


def overlaps(first: Coordinates, second: Coordinates) -> Coordinates:
    """Intersection over union of all pairs, (n, 4), (m, 4) -> (n, m)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common: Coordinates = np.prod(np.clip(high - low, 0, None), axis=2)
    union = _areas(first)[:, None] + _areas(second)[None] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def _areas(boxes: Coordinates) -> Coordinates:
    areas: Coordinates = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return areas


def groups(numbers: Numbers) -> Iterator[tuple[int, Numbers]]:
    """Each number that occurs with its places, which are ascending."""
    order = np.argsort(numbers, kind="stable")
    values, starts = np.unique(numbers[order], return_index=True)
    yield from zip(values.tolist(), np.split(order, starts[1:]), strict=False)
