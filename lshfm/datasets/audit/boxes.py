"""What is odd in a split whose objects are detected: one message for each kind, with how many there are."""

from collections import Counter
from collections.abc import Iterator

from lshfm.datasets.annotations import (
    BACKGROUND,
    BROKEN_BOX,
    COUNTED,
    CROWDS,
    EMPTY_CLASS,
    FRACTIONS,
    NO_BOX,
    OTHER_CLASSES,
    PARTS,
    SHARES,
    Box,
    Fault,
    Grade,
    Object,
    Picture,
    are_shares,
)
from lshfm.datasets.audit.sources import Audit
from lshfm.datasets.checks import first_five
from lshfm.errors import count

ENOUGH = 5  # boxes that begin at pixel 1, none at 0: fewer may be chance

Place = tuple[Picture, Object]


def box_faults(found: Audit, name: str, first: Audit | None = None) -> Iterator[Fault]:
    """Faults, warnings and notes on a split's boxes. first: the training split, where this is another one."""
    places = [(picture, item) for picture in found.pictures for item in picture.objects]
    boxes = [item.box for _, item in places if item.box and item.box.has_area]
    yield from _background(found, name)
    yield from _classes(found, name, is_learnt=first is None)
    if first and (differs := _other_ids(found, first)):
        yield Fault(OTHER_CLASSES, name, differs, Grade.TELLS)
    broken = {fault.where for fault in found.faults if fault.kind == BROKEN_BOX}
    lacking = [place for place in places if place[1].box is None and _where(place) not in broken]
    if lacking:
        what = f"{len(lacking)} of {count(len(places), 'object')} without a box, left out; first: {_where(lacking[0])}"
        yield Fault(NO_BOX, name, what, Grade.WARNS)
    yield from _coordinates(boxes, places, name)
    yield from _counted_from(boxes, name)
    yield from _told(places, name)


def _background(found: Audit, name: str) -> Iterator[Fault]:
    bare = [picture for picture in found.pictures if not picture.objects]
    if bare:
        total = count(len(found.pictures), "image")
        what = f"{len(bare)} of {total} without an object, taken as background; first: {bare[0].where}"
        yield Fault(BACKGROUND, name, what, Grade.TELLS)


def _classes(found: Audit, name: str, *, is_learnt: bool) -> Iterator[Fault]:
    """Classes of which nothing is learnt, or nothing is tested on."""
    counts: Counter[str] = Counter()
    for picture in found.pictures:
        counts.update(item.label for item in picture.objects if not item.difficult and not item.crowd and item.box)
    empty = [name for name in found.classes if not counts[name]]
    if empty and found.pictures:
        so = "nothing is learnt of them" if is_learnt else "their AP is undefined, and no part of the mean"
        total = count(len(found.classes), "class", "classes")
        aside = "difficult ones and crowds aside"
        what = f"{len(empty)} of {total} without an object, {aside}: {first_five(empty)}; {so}"
        yield Fault(EMPTY_CLASS, name, what, Grade.WARNS)


def _other_ids(found: Audit, first: Audit) -> str | None:
    """A clause on the first class whose category id is not that of the training split."""
    both = [name for name in first.category_ids if name in found.category_ids]
    other = next((name for name in both if found.category_ids[name] != first.category_ids[name]), None)
    if other is None:
        return None
    ids = f"{first.category_ids[other]} in the training split and {found.category_ids[other]} here"
    return f"category ids differ, as {other!r} is {ids}: classes are matched by name"


def _coordinates(boxes: list[Box], places: list[Place], name: str) -> Iterator[Fault]:
    if are_shares(boxes):
        what = f"{_boxes(boxes)}, all within the first pixel: shares of the image? Pixels are expected"
        yield Fault(SHARES, name, what, Grade.COUNTS)
        return
    part = [(picture, item) for picture, item in places if item.box and item.box.has_area and _is_parted(item.box)]
    if part:
        what = f"{len(part)} of {_boxes(boxes)} with fractions of pixels, which are kept; first: {_where(part[0])}"
        yield Fault(FRACTIONS, name, what, Grade.TELLS)


def _is_parted(box: Box) -> bool:
    return any(edge % 1 for edge in box)


def _boxes(boxes: list[Box]) -> str:
    return count(len(boxes), "box", "boxes")


def _counted_from(boxes: list[Box], name: str) -> Iterator[Fault]:
    """Signs that pixels were counted from 0 where the format counts from 1, or the other way round."""

    def begin_at(pixel: int) -> int:
        return sum(pixel in (box.left, box.top) for box in boxes)

    early, late = begin_at(-1), begin_at(1)
    if early:
        what = f"{early} of {_boxes(boxes)} beginning a pixel before the image, and cut: "
        yield Fault(COUNTED, name, f"{what}were they counted from 0? VOC counts from 1", Grade.WARNS)
    elif late >= ENOUGH and not begin_at(0):
        what = f"{late} of {_boxes(boxes)} beginning at the second pixel, none at the first: "
        yield Fault(COUNTED, name, f"{what}were they counted from 1? This format counts from 0", Grade.WARNS)


def _told(places: list[Place], name: str) -> Iterator[Fault]:
    crowds = [item for _, item in places if item.crowd]
    if crowds:
        what = f"{len(crowds)} of {count(len(places), 'object')} standing for many: not learnt, ignored in evaluation"
        yield Fault(CROWDS, name, what, Grade.TELLS)
    parts = sum(item.parts for _, item in places)
    if parts:
        what = f"{count(parts, 'part')} of objects, as heads and hands: no objects of their own, left aside"
        yield Fault(PARTS, name, what, Grade.TELLS)


def _where(place: Place) -> str:
    picture, item = place
    return picture.place(item)
