"""Splits whose labels are boxes: read by the readers of the formats, cut to their pictures, in one array."""

import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count as numbers_from
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lshfm.datasets.annotations import Annotations, Box, Object, Picture, are_shares
from lshfm.datasets.images import FileImages, size_of
from lshfm.datasets.reader import Reader, strict
from lshfm.datasets.split import Split
from lshfm.errors import InputError, count

log = logging.getLogger("lshfm")

Rows = NDArray[np.float32]  # (n, M, 7): class from 1 (0: no object), left, top, right, bottom, flag, area
Sizes = NDArray[np.int64]  # (n, 2): width and height
CocoId = int | str  # of an image or a category in COCO's format
COLUMNS = 7
MOST_PIXELS = 2**31  # of a side that is believed
PLAIN, DIFFICULT, CROWD = 0, 1, 2  # flags


@dataclass(frozen=True, eq=False)
class BoxSplit(Split):
    """A split with labels float32 (n, M, 7), as many rows as the image with most objects has.

    Areas are those of masks where the annotations tell them, as COCO's do, else of boxes, in pixels.
    """

    sizes: Sizes  # of the pictures, as their annotations say, else as the files do
    category_ids: tuple[CocoId, ...] = ()  # of the classes in COCO's format; none: counted from 1

    @property
    def about(self) -> dict[str, Any]:
        """The category ids, where the data set has its own."""
        return {"category_ids": list(self.category_ids)} if self.category_ids else {}


def box_split(reader: Reader, name: str, classes: Sequence[str] | None = None) -> BoxSplit:
    """A split with its boxes; pictures without any are kept. Raises InputError as the reader does.

    Boxes are cut to their picture; what has no box, or none inside the picture, is left out, as the log says.
    """
    faults: Counter[str] = Counter()
    found = reader.annotations(name, strict, classes)
    sizes = np.array([_size(picture, upright=reader.exif) for picture in found.pictures], np.int64).reshape(-1, 2)
    objects = [list(_cut(picture, size, faults)) for picture, size in zip(found.pictures, sizes, strict=True)]
    if not reader.first_pixel:
        del faults["early"]
    if are_shares([box for picture in found.pictures for item in picture.objects if (box := item.box)]):
        raise InputError(
            f"{name}: all boxes lie within the first pixel: are they shares of their image? Pixels are expected"
        )
    _tell(name, faults, sum(map(len, objects)))
    images = FileImages(tuple(picture.path for picture in found.pictures), upright=reader.exif)
    ids = tuple(picture.id for picture in found.pictures)
    numbers = category_ids(found.classes, found.category_ids)
    return BoxSplit(name, found.classes, ids, _rows(found, objects), images, sizes, numbers)


def category_ids(classes: Sequence[str], known: Mapping[str, str]) -> tuple[CocoId, ...]:
    """The ids of the classes; those that are not `known` are counted on from the largest. () where none is."""
    ids = {name: coco_id(known[name]) for name in classes if name in known}
    free = numbers_from(max((id_ for id_ in ids.values() if isinstance(id_, int)), default=0) + 1)
    return tuple(ids[name] if name in ids else next(free) for name in classes) if ids else ()


def coco_id(text: str) -> CocoId:
    """An id as COCO's files have it: a number, but for one that as a number would read otherwise, as 000012."""
    is_number = text.isascii() and text.removeprefix("-").isdigit() and str(int(text)) == text
    return int(text) if is_number else text


def _size(picture: Picture, *, upright: bool) -> tuple[int, int]:
    if picture.size and min(picture.size) > 0 and max(picture.size) < MOST_PIXELS:
        return picture.size
    return size_of(picture.path, upright=upright) or (1, 1)  # what cannot be opened is told when pixels are


def _cut(picture: Picture, size: NDArray[np.int64], faults: Counter[str]) -> Iterator[tuple[Object, Box]]:
    """The objects of a picture with their boxes cut to it."""
    width, height = map(int, size)
    for item in picture.objects:
        box = item.box
        if box is None or not all(map(math.isfinite, box)):
            faults["none"] += 1
            continue
        faults["early"] += min(box.left, box.top) == -1
        is_outside = box.fault(width, height) is not None
        cut = Box(max(box.left, 0), max(box.top, 0), min(box.right, width), min(box.bottom, height))
        is_there = cut.left < cut.right and cut.top < cut.bottom
        faults["outside"] += is_outside and is_there
        faults["empty"] += not is_there
        if is_there:
            yield item, cut


def _tell(name: str, faults: Counter[str], objects: int) -> None:
    told = {
        "without a box, left out": faults["none"],
        "without area inside their image, left out": faults["empty"],
        "reaching out of their image, cut": faults["outside"],
    }
    for what, number in told.items():
        if number:
            log.warning("%s: %s %s; lshfm check lists such", name, count(number, "object"), what)
    if faults["early"]:
        what = "begin a pixel before their image: were they counted from 0? VOC counts from 1"
        log.warning("%s: %d of %s %s", name, faults["early"], count(objects, "object"), what)


def _rows(found: Annotations, objects: Sequence[Sequence[tuple[Object, Box]]]) -> Rows:
    number = {name: place for place, name in enumerate(found.classes, start=1)}
    rows = np.zeros((len(objects), max(map(len, objects), default=0), COLUMNS), np.float32)
    for row, items in zip(rows, objects, strict=True):
        for place, (item, box) in enumerate(items):
            area = (box.right - box.left) * (box.bottom - box.top) if item.area is None else item.area
            row[place] = (number[item.label], *box, _flag(item), area)
    return rows


def _flag(item: Object) -> int:
    return CROWD if item.crowd else DIFFICULT if item.difficult else PLAIN


def learnt(rows: Rows) -> NDArray[np.bool_]:
    """Which rows (..., M) training looks at: objects that are neither difficult nor crowds."""
    chosen: NDArray[np.bool_] = (rows[..., 0] > 0) & (rows[..., 5] == PLAIN)
    return chosen
