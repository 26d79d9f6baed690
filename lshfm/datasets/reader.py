"""The base class of readers: one for each format, which training and `lshfm check` both use."""

import logging
import unicodedata
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from lshfm.datasets.annotations import (
    DUPLICATE,
    NO_CLASS,
    NO_IMAGE,
    SPELLINGS,
    UNKNOWN_CLASS,
    UNLABELLED,
    Annotations,
    Fault,
    Grade,
    Picture,
    Report,
    repeated,
)
from lshfm.datasets.checks import contents, first_five, require_class_name, require_text, require_unique
from lshfm.datasets.images import FileImages
from lshfm.datasets.split import Split, settle_unlabelled
from lshfm.errors import InputError, count, nearest, parameter, printable

log = logging.getLogger("lshfm")


def strict(fault: Fault) -> None:
    """The report of training: raises InputError for a fault that stops it, logs a warning, passes over others."""
    if fault.grade is Grade.STOPS:
        raise InputError(f"{fault.where}: {fault.what}")
    if fault.grade is Grade.WARNS:
        log.warning("%s: %s", printable(fault.where), printable(fault.what))


class Reader(ABC):
    """A data set of pictures in files.

    classes: their names, in the order of a network's outputs; None where the files say so. exif: whether pictures are
    turned as their EXIF orientation says. first_pixel: what the files call the leftmost and topmost one.
    """

    root: Path
    classes: tuple[str, ...] | None = None
    unlabelled: str = "negative"
    exif: bool = True
    first_pixel: int = 0
    empty: str = "lists no image"  # what is wrong with a split that has none

    @abstractmethod
    def read(self, name: str, report: Report, classes: Sequence[str] | None = None) -> Annotations:
        """What the files say of a split; every fault that is found goes to `report`, and what has it is left out.

        classes: those of the training split, or of a network, where they are known. Raises InputError where there is
        no such split.
        """

    @abstractmethod
    def names(self) -> list[str]:
        """The splits that there are."""

    def annotations(self, name: str, report: Report, classes: Sequence[str] | None = None) -> Annotations:
        """As `read`, and whatever is wrong with pictures and classes whatever the format goes to `report` too."""
        found = self.read(name, report, classes)
        if found.is_whole and not found.pictures:
            report(Fault(NO_IMAGE, found.source, self.empty))
        elif found.is_whole and not found.classes and classes is None:
            report(Fault(NO_CLASS, found.source, "names no class"))
        for fault in (*_doubles(found), *self._bare(found), *(_spellings(found) if classes is None else ())):
            report(fault)
        there = frozenset(found.classes)
        pictures = (_known(picture, found.classes, there, report) for picture in found.pictures)
        return replace(found, pictures=tuple(pictures))

    def origin(self, name: str) -> tuple[Path, Path] | None:  # noqa: ARG002
        """The one file that a split is read from and the folder of its pictures; None for readers of several files."""
        return None

    def split(self, name: str, classes: Sequence[str] | None = None, report: Report = strict) -> Split:
        """The split with labels int8 (n, C), of these classes unless the data set has its own. Raises InputError."""
        found = self.annotations(name, report, classes)
        images = FileImages(tuple(picture.path for picture in found.pictures), upright=self.exif)
        ids = tuple(picture.id for picture in found.pictures)
        return settle_unlabelled(Split(name, found.classes, ids, found.labels(), images), self.unlabelled)

    def is_alone(self, train: str, other: str) -> bool:
        """Whether the training split is all there is, so that nothing else can be tested on."""
        return train != other and self.names() == [train]

    def missing(self, name: str, expected: str) -> InputError:
        """The error for a split, or a root, that is not there. expected: a sentence on what was looked for."""
        if not self.root.is_dir():
            return InputError(f"{parameter('root')}={self.root}: no such folder.\n{expected}")
        names = self.names()
        keys = f"{parameter('train_split')} and {parameter('eval_split')}"
        there = f"; it has {first_five(names)}{nearest(name, names)}, and {keys} say which to take" if names else ""
        holdout = f" Without another, {parameter('holdout')}=0.2 tests on a part of it." if len(names) == 1 else ""
        says = f"No split '{name}' at {parameter('root')}={self.root}{there}.{holdout}"
        return InputError(f"{says}\n{expected} {contents(self.root)}.")

    def _bare(self, found: Annotations) -> Iterator[Fault]:
        if self.unlabelled == "error":
            advice = f"shows no class; {parameter('unlabelled')}=negative takes it as showing none"
            bare = (picture for picture in found.pictures if picture.is_read and not picture.objects)
            yield from (Fault(UNLABELLED, picture.where, advice, Grade.COUNTS) for picture in bare)


def clause(error: InputError, path: Path) -> str:
    """An error's message without the file that it begins with, which the fault names."""
    return str(error).removeprefix(str(path)).lstrip(" ,:")


def class_list(origin: str, names: Sequence[object]) -> tuple[str, ...]:
    """Names that classes can have, each once. Raises InputError for others, naming where they come from."""
    if not names:
        raise InputError(f"{origin} names no class")
    for name in names:
        require_text(f"{origin}: class", name)
        require_class_name(f"{origin}: class", str(name))
    classes = tuple(map(str, names))
    require_unique(f"{origin}: class", classes)
    return classes


def own_classes(classes: Sequence[str] | None) -> tuple[str, ...] | None:
    """The classes that the user gave. Raises InputError for what is no list of names."""
    if classes is None:
        return None
    own = parameter("classes")
    if isinstance(classes, str) or not isinstance(classes, Sequence):
        raise InputError(f"{own}={classes} must be a list: {own}=[{classes}]")
    return class_list(own, classes)


def class_difference(first: Sequence[str], other: Sequence[str]) -> str:
    """A clause on how the classes of one split differ from those of the first."""
    parts = [("lack", [name for name in first if name not in other]), ("add", [n for n in other if n not in first])]
    named = [f"{word} {first_five(names)}" for word, names in parts if names]
    return " and ".join(named) or "are in another order"


def _known(picture: Picture, classes: tuple[str, ...], there: frozenset[str], report: Report) -> Picture:
    """The picture without objects of unknown classes, which are reported unless no class is known at all."""
    unknown = [item for item in picture.objects if item.label not in there]
    if not unknown:
        return picture
    for item in unknown if classes else ():
        shown = printable(item.label)
        report(Fault(UNKNOWN_CLASS, picture.place(item), f"unknown class '{shown}'{nearest(shown, classes)}"))
    objects = tuple(item for item in picture.objects if item.label in there)
    return picture._replace(objects=objects if classes else picture.objects)


def _doubles(found: Annotations) -> Iterator[Fault]:
    """Pictures with the id or the file of another one."""
    for id in repeated(picture.id for picture in found.pictures):
        yield Fault(DUPLICATE, found.source, f"image id {id!r} is there several times")
    for path in repeated(str(picture.path) for picture in found.pictures):
        yield Fault(DUPLICATE, found.source, f"lists {path} several times", Grade.COUNTS)


def _spellings(found: Annotations) -> Iterator[Fault]:
    """Classes whose names differ in case, blanks or Unicode form alone."""
    alike: dict[str, list[str]] = defaultdict(list)
    for name in found.classes:
        alike[" ".join(unicodedata.normalize("NFKC", name).casefold().split())].append(name)
    counts: Counter[str] = Counter()
    for names in alike.values():
        if len(names) > 1:
            counts = counts or _pictures_of_each(found)
            shown = ", ".join(f"{name!a} ({count(counts[name], 'image')})" for name in names)
            what = f"{shown} are {len(names)} classes: write them in one way if one is meant"
            yield Fault(SPELLINGS, found.source, what, Grade.WARNS)


def _pictures_of_each(found: Annotations) -> Counter[str]:
    present, difficult = found.counts()
    return present + difficult
