"""The page: sections as one HTML file that needs nothing else, not even a style or a script that it does not name."""

import base64
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import jinja2
from markupsafe import Markup

from lshfm import __version__
from lshfm.errors import printable
from lshfm.report.blocks import Section

FOLDER = Path(__file__).parent / "html"


def page(title: str, sections: Sequence[Section], notes: Sequence[str] = ()) -> str:
    """The HTML. notes: what the reader should know first, a sentence each."""
    style, script = ((FOLDER / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined, finalize=_shown,
    )  # fmt: skip
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return environment.get_template("page.html").render(
        title=title, sections=sections, notes=notes, made=made, version=__version__, style=Markup(style),
        script=Markup(script), style_hash=_hash(style), script_hash=_hash(script), own=Markup,
    )  # fmt: skip


def _shown(value: object) -> object:
    """Texts without characters that HTML forbids or that turn the direction of what follows; markup as it is."""
    return printable_lines(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def printable_lines(text: str) -> str:
    """As `printable`, but lines stay lines."""
    return "\n".join(map(printable, text.split("\n")))


def _hash(text: str) -> str:
    """As a content security policy names a text that it lets in."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
