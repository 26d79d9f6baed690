"""What a data set's files say of its pictures (classes, objects, boxes), and the faults that are found in them."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lshfm.datasets.split import Labels

# Kinds of faults, as they are shown and counted.
BROKEN_ANNOTATION = "broken annotation"
BROKEN_BOX = "broken box"
BROKEN_IMAGE = "broken image"
DUPLICATE = "duplicate"
FILE_NAME = "file name"
MISSING_ANNOTATION = "image without annotation"
MISSING_IMAGE = "missing image"
NO_AREA = "box without area"
NO_CLASS = "no class"
NO_IMAGE = "no image"
ONE_CLASS = "one class"
OUTSIDE = "box outside the image"
UNKNOWN_CLASS = "unknown class"
UNLABELLED = "image without label"
UNLISTED = "annotation without image"
WRONG_SIZE = "size other than annotated"
# Kinds of warnings and notes.
BACKGROUND = "images without an object"
COUNTED = "boxes that may be counted from another pixel"
CROWDS = "crowds"
EMPTY_CLASS = "classes without an object"
FRACTIONS = "fractions of pixels"
NO_BOX = "objects without a box"
PARTS = "parts of objects"
SHARES = "boxes that are no pixels"
FEW_IMAGES = "class with too few images"
OTHER_CLASSES = "classes other than the training split's"
ROWS = "several rows of one image"
SEPARATOR = "labels that look like several"
SPELLINGS = "one class in several spellings"


class Grade(Enum):
    """What a fault means."""

    STOPS = "stops"  # nothing is trained on such data
    COUNTS = "counts"  # the data set is not in order, but for labels of whole images it will do
    WARNS = "warns"  # may be meant so
    TELLS = "tells"  # nothing is wrong: how something is taken


@dataclass(frozen=True)
class Fault:
    """Something wrong with a data set: its kind, the file or entry it is in (`where`), and a clause on it (`what`)."""

    kind: str
    where: str
    what: str
    grade: Grade = Grade.STOPS


Report = Callable[[Fault], None]  # what a reader calls with each fault that it finds; it may raise


class Box(NamedTuple):
    """An object's place in pixels, half open: x from left to below right, likewise y."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def has_area(self) -> bool:
        """Whether there is anything in it; nothing is in one whose edges are no numbers."""
        return self.left < self.right and self.top < self.bottom

    def fault(self, width: int, height: int) -> str | None:
        """What is wrong with it in an image of this size, if anything; one pixel outside is taken for rounding."""
        shown = f"{self.left:g},{self.top:g} to {self.right:g},{self.bottom:g}"
        if not self.has_area:
            return f"is empty or not a number: {shown}"
        if self.left >= -1 and self.top >= -1 and self.right <= width + 1 and self.bottom <= height + 1:
            return None
        return f"{shown}, in an image of {width} x {height}"


def are_shares(boxes: Collection[Box]) -> bool:
    """Whether all boxes lie within the first pixel, as shares of an image do."""
    return bool(boxes) and all(max(box.right, box.bottom) <= 1 for box in boxes)


class Object(NamedTuple):
    """An object in a picture, or a label of the whole picture."""

    label: str
    difficult: bool = False
    crowd: bool = False  # stands for many objects of its class
    box: Box | None = None
    number: str = ""  # its id, or its place among the picture's objects from 1
    parts: int = 0  # boxes of its own parts, as VOC has of persons: they are no objects
    area: float | None = None  # of its mask, in pixels, where the format tells it


class Picture(NamedTuple):
    """A picture and what is annotated in it."""

    id: str
    path: Path
    where: str  # the file or entry that lists it
    objects: tuple[Object, ...] = ()
    size: tuple[int, int] | None = None  # (width, height), where the annotation says so
    begins: str = ""  # what the places of its objects begin with
    is_read: bool = True  # False where its annotation could not be read

    def place(self, item: Object) -> str:
        """The file and entry of one of its objects."""
        return f"{self.begins}{item.number}" if self.begins else self.where


@dataclass(frozen=True)
class Annotations:
    """A split as its files have it."""

    source: str  # the file or folder, for messages
    classes: tuple[str, ...]
    pictures: tuple[Picture, ...]
    is_whole: bool = True  # False where something was left out for its faults
    category_ids: Mapping[str, str] = field(default_factory=dict)  # the files' own, by class; none in most formats

    def labels(self) -> Labels:
        """int8 (n, C): +1 for an object that is not difficult, 0 for difficult ones only, -1 for none."""
        labels = np.full((len(self.pictures), len(self.classes)), -1, np.int8)
        column = {name: number for number, name in enumerate(self.classes)}
        for row, picture in zip(labels, self.pictures, strict=True):
            for item in picture.objects:
                row[column[item.label]] = max(row[column[item.label]], 0 if item.difficult else 1)
        return labels

    def counts(self) -> tuple[Counter[str], Counter[str]]:
        """Of each class, the pictures that show it, and those with only difficult objects of it."""
        present, difficult = Counter(dict.fromkeys(self.classes, 0)), Counter[str]()
        for picture in self.pictures:
            shown = {item.label for item in picture.objects if not item.difficult}
            present.update(shown)
            difficult.update({item.label for item in picture.objects} - shown)
        return present, difficult


def repeated(names: Iterable[str]) -> Iterator[str]:
    """The names that occur several times, once each."""
    return (name for name, times in Counter(names).items() if times > 1)
