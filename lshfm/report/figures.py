"""Drawings as SVG in the page's own colours and letters: light, dark and print are the style sheet's to say.

Matplotlib draws with stand-in colours, which become CSS variables. Texts stay texts, and none is read as a formula.
"""

import io
import re
import textwrap
import warnings
from collections.abc import Sequence
from html import escape
from itertools import count
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lshfm.errors import printable
from lshfm.report.arms import Arm
from lshfm.report.blocks import Picture

INK, MUTED, GRID, PAPER = "#010101", "#020202", "#030303", "#040404"
NUM_COLOURS = 8
COLOURS = tuple(f"#05050{number}" for number in range(NUM_COLOURS))
_VARIABLES = {INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "paper"} | {
    colour: f"c{number}" for number, colour in enumerate(COLOURS)
}
_SETTINGS: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "lshfm", "text.parse_math": False, "font.size": 9, "axes.titlesize": 10.5,
    "axes.titlelocation": "left", "axes.titleweight": "bold", "axes.titlepad": 8, "axes.spines.top": False,
    "axes.spines.right": False, "axes.edgecolor": GRID, "axes.labelcolor": MUTED, "axes.titlecolor": INK,
    "axes.facecolor": "none", "figure.facecolor": "none", "text.color": INK, "xtick.color": GRID, "ytick.color": GRID,
    "xtick.labelcolor": MUTED, "ytick.labelcolor": MUTED, "axes.grid": True, "grid.color": GRID, "grid.linewidth": 0.6,
    "axes.axisbelow": True, "lines.linewidth": 1.6, "lines.solid_capstyle": "round", "axes.unicode_minus": True,
    "legend.frameon": False, "axes.formatter.useoffset": False,
}  # fmt: skip
LONGEST = 28  # characters of a name in a drawing
WIDTH, HEIGHT = 4.4, 2.7  # inches of a panel
_number = count()


def colour_of(arm: Arm) -> str:
    """The stand-in of an arm's colour."""
    return INK if arm.colour is None else COLOURS[arm.colour % NUM_COLOURS]


def dashes_of(arm: Arm) -> Any:
    """How an arm's lines are drawn: dashed for stage 1, dotted from the ninth arm on, whose colours come again."""
    return "--" if arm.dashed else ":" if (arm.colour or 0) >= NUM_COLOURS else "-"


def legend_of(arms: Sequence[Arm]) -> list[tuple[str, int | None, bool]]:
    """The arms' entries in a legend."""
    return [(arm.title, arm.colour, arm.dashed or (arm.colour or 0) >= NUM_COLOURS) for arm in arms]


def short(name: str) -> str:
    """A name that fits into a drawing: printable, and cut where it is long."""
    text = printable(name)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


class Panel:
    """One drawing with axes, to be filled and then taken as a picture."""

    def __init__(self, title: str, x: str = "", y: str = "", *, width: float = WIDTH, height: float = HEIGHT) -> None:
        self.title, self.tall = title, height > 2 * HEIGHT
        with matplotlib.rc_context(_SETTINGS):
            self.figure = Figure(figsize=(width, height), layout="constrained")
            self.axes: Axes = self.figure.add_subplot()
            self.axes.set_title("\n".join(textwrap.wrap(printable(title), 40)[:3]))
        if x == "epoch":
            self.axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        self.axes.set_xlabel(short(x))
        self.axes.set_ylabel(short(y))

    def picture(self, says: str = "") -> Picture:
        """The drawing. says: in words what it shows, for those who do not see it."""
        return Picture(self.title, _svg(self.figure, self.title, says), self.tall)


def _svg(figure: Figure, title: str, says: str) -> str:
    written = io.StringIO()
    with matplotlib.rc_context(_SETTINGS), warnings.catch_warnings(action="ignore"):  # of letters that a font lacks
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    return _themed(written.getvalue(), title, says)


def _themed(svg: str, title: str, says: str) -> str:
    """The SVG without what an inline drawing does not need, with variables for colours and no style attribute."""
    number = next(_number)
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
    width, height = (float(size) for size in re.findall(r"viewBox=\"0 0 ([\d.]+) ([\d.]+)\"", body)[0])
    body = body[body.index(">") + 1 :]
    used = set(re.findall(r"url\(#([^)]+)\)|href=\"#([^\"]+)\"", body))
    kept = {name for pair in used for name in pair if name}
    body = re.sub(r' id="([^"]*)"', lambda match: f' id="f{number}-{match[1]}"' if match[1] in kept else "", body)
    body = re.sub(r"url\(#", f"url(#f{number}-", body)
    body = re.sub(r'(?:xlink:)?href="#', f'href="#f{number}-', body)
    body = re.sub(r' style="([^"]*)"', _attributes, body)
    body = re.sub(r' d="([^"]*)"', lambda match: f' d="{_rounded(match[1])}"', body, flags=re.DOTALL)
    body = re.sub(r' (x|y|width|height|transform)="([^"]*)"', lambda m: f' {m[1]}="{_rounded(m[2])}"', body)
    body = re.sub(r"#0[1-5]0[1-5]0[0-9]", lambda match: f"var(--{_VARIABLES[match[0]]})", body)
    body = re.sub(r"\n\s*", "\n", body)
    description = f"<desc>{escape(printable(says))}</desc>" if says else ""
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(printable(title))}" '
        f'stroke-linejoin="round" stroke-linecap="butt"><title>{escape(printable(title))}</title>{description}{body}'
    )


def _attributes(match: re.Match[str]) -> str:
    """A style attribute as attributes of their own, which need no permission of the page's policy."""
    found: dict[str, str] = {}  # of an entry that is there twice the last one holds
    for entry in match[1].split(";"):
        name, _, value = (part.strip() for part in entry.partition(":"))
        if name == "font":
            size = re.search(r"([\d.]+)px", value)
            found["font-size"] = size[1] if size else "9"
            found |= {"font-weight": "600"} if re.search(r"\b(bold|700|600)\b", value) else {}
        elif name:
            found[name] = value
    return "".join(f' {name}="{value}"' for name, value in found.items())


def _rounded(text: str) -> str:
    """Coordinates to a hundredth of a point."""
    return re.sub(r"-?\d+\.\d{3,}", lambda match: f"{float(match[0]):.2f}".rstrip("0").rstrip("."), text)
