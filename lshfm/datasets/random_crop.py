"""Random resized crops of pictures as they are decoded, keyed by (seed, epoch, index); decode workers run this."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lshfm.datasets import keyed
from lshfm.datasets.keyed import Stream
from lshfm.datasets.split import BrokenImage, Pixels

RATIO = (3 / 4, 4 / 3)  # width to height, as published
TRIES = 10

Box = tuple[int, int, int, int]  # left, top, right, bottom


def crop_box(width: int, height: int, area: tuple[float, float], numbers: NDArray[np.float64]) -> Box:
    """A crop whose share of the picture's area and whose ratio (log-uniform in RATIO) are drawn; torchvision's rule.

    numbers: (TRIES, 4) uniform in [0, 1): area, ratio, top and left of each try; if none fits, the largest centred crop
    of a ratio that is allowed.
    """
    low, high = (math.log(ratio) for ratio in RATIO)
    for drawn_area, drawn_ratio, top, left in numbers.tolist():
        pixels = width * height * (area[0] + (area[1] - area[0]) * drawn_area)
        ratio = math.exp(low + (high - low) * drawn_ratio)
        w, h = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if 0 < w <= width and 0 < h <= height:
            x, y = int(left * (width - w + 1)), int(top * (height - h + 1))
            return x, y, x + w, y + h
    ratio = min(max(width / height, RATIO[0]), RATIO[1])
    w, h = min(width, round(height * ratio)), min(height, round(width / ratio))
    x, y = (width - w) // 2, (height - h) // 2
    return x, y, x + w, y + h


def numbers_of(index: int, *, seed: int, epoch: int) -> NDArray[np.float64]:
    """(TRIES, 4) for one picture."""
    streams = Stream.RESIZED_CROP + np.arange(4 * TRIES)
    return keyed.uniform(seed, epoch, index, streams).reshape(TRIES, 4)


def cropped(image: Image.Image, size: int, area: tuple[float, float], numbers: NDArray[np.float64]) -> Pixels:
    """The crop, by Pillow's antialiased bilinear resize to size x size."""
    box = crop_box(*image.size, area, numbers)
    return np.array(image.crop(box).resize((size, size), Image.Resampling.BILINEAR))


def crop_batch(
    images: Any, index: NDArray[np.int64], *, size: int, area: tuple[float, float], seed: int, epoch: int
) -> Pixels | str:
    """Uint8 (B, size, size, 3), or what is wrong."""
    try:
        parts = [cropped(images.picture(int(i)), size, area, numbers_of(int(i), seed=seed, epoch=epoch)) for i in index]
    except BrokenImage as error:
        return str(error)
    return np.stack(parts)
