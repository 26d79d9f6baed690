"""The audit of one split: what is known of its pictures, and everything that is wrong with them."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lshfm.datasets.annotations import FEW_IMAGES, Annotations, Fault, Grade, Picture
from lshfm.datasets.images import FileImages
from lshfm.datasets.reader import Reader
from lshfm.datasets.single import counts_of
from lshfm.datasets.split import Images, Split
from lshfm.errors import count


@dataclass
class Audit:
    """A split as far as it can be read."""

    images: Images
    classes: tuple[str, ...]
    present: Counter[str]  # images that show a class
    difficult: Counter[str]  # images with only difficult objects of it
    pictures: tuple[Picture, ...] = ()  # what is annotated; none where the reader gives labels alone
    faults: list[Fault] = field(default_factory=list)
    category_ids: Mapping[str, str] = field(default_factory=dict)  # the files' own, by class


def audit(source: Any, name: str, classes: Sequence[str] | None = None) -> Audit:
    """The audit of a split's annotations, by the reader that training uses, up to its first fault if it is not ours.

    classes: those of the training split, where this is another one. Raises InputError where there is no such split.
    """
    if not isinstance(source, Reader):
        return _of_split(source.split(name))
    faults: list[Fault] = []
    return _of_annotations(source.annotations(name, faults.append, classes), faults, upright=source.exif)


def _of_annotations(found: Annotations, faults: list[Fault], *, upright: bool) -> Audit:
    images = FileImages(tuple(picture.path for picture in found.pictures), upright=upright)
    return Audit(images, found.classes, *found.counts(), found.pictures, faults, found.category_ids)


def _of_split(split: Split) -> Audit:
    if split.labels.ndim == 1:
        return Audit(split.images, split.classes, counts_of(split.labels, split.classes), Counter())
    present, difficult = (
        Counter(dict(zip(split.classes, (split.labels == mark).sum(axis=0).tolist(), strict=True))) for mark in (1, 0)
    )
    return Audit(split.images, split.classes, present, difficult)


def few_images(found: Audit, name: str, *, is_learnt: bool) -> Iterator[Fault]:
    """Of whole images' labels: a class that no image of the split shows is told, or a single one to learn from."""
    for each in found.classes:
        seen = found.present[each] + (found.difficult[each] if is_learnt else 0)  # difficult ones are learnt, too
        if seen < (2 if is_learnt else 1):
            aside = ", difficult ones aside" if found.difficult[each] and not is_learnt else ""
            yield Fault(FEW_IMAGES, name, f"class {each!r} has {count(seen, 'image')}{aside}", Grade.WARNS)
