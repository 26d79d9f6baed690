"""What a report's page is made of: sections with tables, pictures, examples and text; no markup."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lshfm.report.arms import Spread


@dataclass(frozen=True)
class Cell:
    """A table's cell: its text, and what it is sorted by."""

    text: str
    value: float | str | None = None
    swatch: int | None = None  # colour of an arm, shown before the text
    hint: str = ""  # said beside it in small letters


@dataclass(frozen=True)
class Column:
    """A table's column."""

    title: str
    is_number: bool = True
    hint: str = ""


@dataclass(frozen=True)
class Table:
    """Rows under columns; every row begins with what it is of."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    kind: str = field(default="table", init=False)


@dataclass(frozen=True)
class Picture:
    """A drawing as SVG, which `report.figures` made: the only text that is not escaped again."""

    title: str
    svg: str
    is_tall: bool = False


@dataclass(frozen=True)
class Pictures:
    """Drawings side by side, with a legend of arms: (title, colour, dashed)."""

    pictures: Sequence[Picture]
    legend: Sequence[tuple[str, int | None, bool]] = ()
    is_dense: bool = False  # many small ones
    kind: str = field(default="pictures", init=False)


@dataclass(frozen=True)
class Example:
    """An image with what two networks say of it; each a list of (label, probability, whether it is right)."""

    id: str
    picture: str | None  # data:image/jpeg;base64,...
    true: Sequence[str]
    first: Sequence[tuple[str, float, bool]]
    second: Sequence[tuple[str, float, bool]]
    change: str


@dataclass(frozen=True)
class Gallery:
    """Examples under a title, and what the two networks are called."""

    title: str
    first: str
    second: str
    examples: Sequence[Example]
    kind: str = field(default="gallery", init=False)


@dataclass(frozen=True)
class Outline:
    """A box in an image, in its pixels, with a text, and with what more there is to say of it.

    look: object, right, wrong, missed or aside. at: where the text begins, on its line.
    """

    left: float
    top: float
    width: float
    height: float
    text: str
    look: str
    says: str
    at: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class View:
    """An image with boxes on it, and what of them is said in words."""

    title: str
    says: str
    outlines: Sequence[Outline]


@dataclass(frozen=True)
class Scene:
    """An image in several views. font: pixels of letters, in those of the image."""

    id: str
    picture: str | None  # data:image/jpeg;base64,...
    width: int
    height: int
    font: float
    views: Sequence[View]


@dataclass(frozen=True)
class Scenes:
    """Images with boxes on them; one block of a page."""

    scenes: Sequence[Scene]
    kind: str = field(default="scenes", init=False)


@dataclass(frozen=True)
class Text:
    """A paragraph, or lines as they are."""

    text: str
    is_code: bool = False
    title: str = ""
    kind: str = field(default="text", init=False)


Block = Table | Pictures | Gallery | Scenes | Text


@dataclass(frozen=True)
class Section:
    """A part of the page under a heading."""

    id: str
    title: str
    blocks: Sequence[Block]
    intro: str = ""


def number(value: Any, digits: int = 2, unit: str = "") -> Cell:
    """A number's cell; a dash where there is none."""
    if not isinstance(value, int | float) or isinstance(value, bool) or value != value:
        return Cell("–")
    return Cell(f"{value:.{digits}f}{unit}", float(value))


def spread_cell(spread: Spread | None, digits: int = 2) -> Cell:
    """Mean and deviation over seeds."""
    if spread is None:
        return Cell("–")
    deviation = "" if spread.deviation is None else f" ± {spread.deviation:.{digits}f}"
    return Cell(f"{spread.mean:.{digits}f}{deviation}", spread.mean)
