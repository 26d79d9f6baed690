"""Faults of a data set, and the audit of one split that collects them."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from lshfm.datasets.split import Images

# Kinds of faults, as they are shown and counted.
BROKEN_ANNOTATION = "broken annotation"
BROKEN_IMAGE = "broken image"
DUPLICATE = "duplicate"
MISSING_ANNOTATION = "image without annotation"
MISSING_IMAGE = "missing image"
OUTSIDE = "box outside the image"
UNKNOWN_CLASS = "unknown class"
UNLABELLED = "image without label"
UNLISTED = "annotation without image"
WRONG_SIZE = "size other than annotated"


@dataclass(frozen=True)
class Fault:
    """Something wrong with a data set: its kind, the file or entry it is in (`where`), and a clause on it (`what`)."""

    kind: str
    where: str
    what: str


@dataclass(frozen=True)
class Box:
    """An object's place in pixels, half open: x from left to below right, likewise y. `where` names the object."""

    where: str
    left: float
    top: float
    right: float
    bottom: float

    def fault(self, width: int, height: int) -> Fault | None:
        """What is wrong with it in an image of this size, if anything; one pixel outside is taken for rounding."""
        shown = f"{self.left:g},{self.top:g} to {self.right:g},{self.bottom:g}"
        if not (self.left < self.right and self.top < self.bottom):
            return Fault(OUTSIDE, self.where, f"is empty or not a number: {shown}")
        if self.left >= -1 and self.top >= -1 and self.right <= width + 1 and self.bottom <= height + 1:
            return None
        return Fault(OUTSIDE, self.where, f"{shown}, in an image of {width} x {height}")


@dataclass
class Audit:
    """A split as far as it can be read: its pictures, what is known of each, and the faults of its annotations."""

    images: Images
    boxes: list[list[Box]]  # of each picture
    sizes: list[tuple[int, int] | None]  # of each picture (width, height), where its annotation says so
    present: Counter[str] = field(default_factory=Counter)  # images that show a class
    difficult: Counter[str] = field(default_factory=Counter)  # images with only difficult objects of it
    faults: list[Fault] = field(default_factory=list)

    def expect(self, classes: Iterable[str]) -> None:
        """Count these classes even where no image shows them."""
        self.present.update(dict.fromkeys(classes, 0))

    def count(self, present: Iterable[str], difficult: Iterable[str] = ()) -> None:
        """Count an image's classes once each."""
        shown = set(present)
        self.present.update(shown)
        self.difficult.update(set(difficult) - shown)


def repeated(names: Iterable[str]) -> Iterator[str]:
    """The names that occur several times, once each."""
    return (name for name, times in Counter(names).items() if times > 1)
