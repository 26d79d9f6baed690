"""The embedded data set: coloured shapes that are drawn when asked for, the same on every machine.

Several shapes an image overlap before a noisy background with grey blobs, below thin lines. Colour, size and
slant vary within a class, and all shapes have the same areas, so that only the outline tells them apart.
"""

import cmath
import colorsys
import hashlib
import json
import math
from dataclasses import dataclass
from itertools import pairwise
from random import Random

import numpy as np
from PIL import Image, ImageDraw

from lshfm.datasets.checks import require_choice, require_whole
from lshfm.datasets.split import Labels, Pixels, Split
from lshfm.errors import parameter

Colour = tuple[int, int, int]
Outline = list[tuple[float, float]]

_MOST_IMAGES = 10**6  # of a split; its labels are found by drawing every image
_SIDE = 64  # pixels, drawn once at this size and then resized
_HUES = {"red": 0.0, "green": 1 / 3, "blue": 2 / 3}
_DIFFICULT_FRACTION = 0.3  # of its area, or less, is all that shows of a difficult object
_DIFFICULT_PIXELS = 40  # or so few of the drawn pixels


def _regular(corners: int, first: float, inner: float = 1.0) -> tuple[complex, ...]:
    """A regular polygon of area 1 around 0, its first corner at that angle; with `inner` below 1 a star."""
    points = [cmath.rect(inner if i % 2 else 1.0, first + math.tau * i / corners) for i in range(corners)]
    area = sum((a.conjugate() * b).imag for a, b in pairwise([*points, points[0]])) / 2
    return tuple(point / math.sqrt(area) for point in points)


_UP = -math.pi / 2
_SHAPES = {
    "circle": _regular(24, _UP),
    "square": _regular(4, _UP / 2),
    "triangle": _regular(3, _UP),
    "star": _regular(10, _UP, inner=0.45),
}

CLASSES = tuple(f"{colour} {shape}" for colour in _HUES for shape in _SHAPES)


class Shapes:
    """12 classes, 4 shapes in 3 colours; the splits are "train" and "test"."""

    def __init__(self, seed: int = 0, num_train: int = 4000, num_eval: int = 1000) -> None:
        for name, count in (("num_train", num_train), ("num_eval", num_eval)):
            require_whole(parameter(name), count, 1, _MOST_IMAGES)
        require_whole(parameter("seed"), seed, -(2**63), 2**63 - 1)
        self.seed = seed
        self.counts = {"train": num_train, "test": num_eval}

    def split(self, name: str) -> Split:
        """Labels are 0 where a class shows only small or mostly hidden objects. Raises InputError."""
        require_choice("Shapes split", name, tuple(self.counts))
        count = self.counts[name]
        ids = tuple(f"{name}_{index:05d}" for index in range(count))
        labels = np.stack([Scene(self.seed, name, index).labels() for index in range(count)])
        return Split(name, CLASSES, ids, labels, DrawnImages(self.seed, name, count))


@dataclass(frozen=True)
class DrawnImages:
    """The pictures of one split of Shapes."""

    seed: int
    split: str
    count: int

    def __len__(self) -> int:
        return self.count

    def where(self, index: int) -> str:
        return f"drawn image {index} of shapes {self.split}"

    def pixels(self, index: int, size: int) -> Pixels:
        image = Scene(self.seed, self.split, index).draw()
        return np.array(image.resize((size, size), Image.Resampling.BILINEAR))

    def signature(self) -> str:
        return self.fingerprint()

    def fingerprint(self) -> str:
        """Hex digest of the settings and of some drawn pictures: other code or another Pillow may draw otherwise."""
        settings = json.dumps([self.seed, self.split, self.count])
        drawn = [Scene(self.seed, self.split, index).draw().tobytes() for index in range(min(self.count, 8))]
        return hashlib.sha256(settings.encode() + b"".join(drawn)).hexdigest()


@dataclass(frozen=True)
class Item:
    """One thing to draw: an object of class `column`, or clutter."""

    outline: Outline
    colour: Colour
    area: float = 0.0
    column: int = -1


class Scene:
    """What one image shows.

    Python's own generator gives the same numbers in all versions, as long as only `random` (hence `uniform`)
    and `getrandbits` (hence `randbytes`) are called.
    """

    def __init__(self, seed: int, split: str, index: int) -> None:
        self._random = Random(f"shapes {seed} {split} {index}")
        self.objects = [self._object() for _ in range(self._integer(1, 3))]
        self.lines = [self._line() for _ in range(self._integer(0, 2))]

    def labels(self) -> Labels:
        """int8 (12,): decided by the pixels that later objects and lines leave visible."""
        labels = np.full(len(CLASSES), -1, np.int8)
        for item, visible in zip(self.objects, self._visible(), strict=True):
            difficult = visible < max(_DIFFICULT_PIXELS, _DIFFICULT_FRACTION * item.area)
            if visible:
                labels[item.column] = max(labels[item.column], 0 if difficult else 1)
        return labels

    def draw(self) -> Image.Image:
        """The picture, RGB, `_SIDE` pixels square. Call it once: it goes on with the scene's random numbers."""
        noise = Image.frombytes("RGB", (_SIDE, _SIDE), self._random.randbytes(3 * _SIDE * _SIDE))
        image = Image.blend(Image.new("RGB", noise.size, self._grey()), noise, 0.1)
        brush = ImageDraw.Draw(image)
        for item in [self._blob() for _ in range(self._integer(0, 2))] + self.objects:
            brush.polygon(item.outline, fill=item.colour)
        for item in self.lines:
            brush.line(item.outline, fill=item.colour)
        return image

    def _visible(self) -> list[int]:
        """Visible pixels of each object."""
        image = Image.new("L", (_SIDE, _SIDE))
        brush = ImageDraw.Draw(image)
        for number, item in enumerate(self.objects, start=1):
            brush.polygon(item.outline, fill=number)
        for item in self.lines:
            brush.line(item.outline, fill=0)
        return image.histogram()[1 : len(self.objects) + 1]

    def _object(self) -> Item:
        column = self._integer(0, len(CLASSES) - 1)
        colour, shape = CLASSES[column].split()
        area = self._random.uniform(11, 25) ** 2
        hue = _HUES[colour] + self._random.uniform(-0.07, 0.07)
        return Item(self._outline(shape, area), self._colour(hue), area, column)

    def _blob(self) -> Item:
        shape = tuple(_SHAPES)[self._integer(0, len(_SHAPES) - 1)]
        return Item(self._outline(shape, self._random.uniform(7, 22) ** 2), self._grey())

    def _line(self) -> Item:
        ends = [(self._random.uniform(0, _SIDE), self._random.uniform(0, _SIDE)) for _ in range(2)]
        return Item(ends, self._colour(self._random.random()))

    def _outline(self, shape: str, area: float) -> Outline:
        """Corners of a shape of this area, a little slanted, its centre at random well inside the image."""
        centre = complex(self._random.uniform(8, _SIDE - 8), self._random.uniform(8, _SIDE - 8))
        turn = cmath.rect(math.sqrt(area), self._random.uniform(-0.4, 0.4))
        points = [centre + turn * point for point in _SHAPES[shape]]
        return [(point.real, point.imag) for point in points]

    def _colour(self, hue: float) -> Colour:
        rgb = colorsys.hsv_to_rgb(hue, self._random.uniform(0.6, 1), self._random.uniform(0.6, 1))
        red, green, blue = (round(255 * part) for part in rgb)
        return red, green, blue

    def _grey(self) -> Colour:
        grey = self._integer(40, 200)
        return grey, grey, grey

    def _integer(self, low: int, high: int) -> int:
        """One of low..high, both included."""
        return low + int((high - low + 1) * self._random.random())
