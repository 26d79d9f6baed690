"""What `make docs` adds to the pages: tables made of the code's own data, and a look at what the site would fetch.

A page asks for a made part with a line `<!-- made: NAME WORD... -->`.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError

from docs.made.config_reference import config_reference
from docs.made.recipe_tables import recipe_tables
from docs.made.spellings import spellings

MARK = re.compile(r"^<!-- made: ([^>]+?) -->$", re.MULTILINE)
OUTSIDE = re.compile(r"\[([^\]]*)\]\((?:\.\./)+([^)#\s]*)(?:#([\w-]*))?\)")  # links to files beside docs/
README = {"mimic": "mimicking.md", "for-contributors": "architecture.md"}  # where its sections are told in full
# What makes a browser fetch: sources of scripts, styles, fonts and pictures. Links that are clicked fetch nothing.
FETCHED = re.compile(
    r"<(?:script|img|iframe|source|video|audio)\b[^>]*?\bsrc=[\"']?(?:https?:)?//[^\"'\s>]+"
    r"|<link\b(?![^>]*rel=[\"']?canonical)[^>]*?\bhref=[\"']?(?:https?:)?//[^\"'\s>]+"
    r"|@import\s+[\"'(]*(?:url\()?[\"']?(?:https?:)?//[^\"')\s]+|url\([\"']?(?:https?:)?//[^\"')]+"
)


def api(*names: str) -> str:
    """References of modules, classes and functions, from their docstrings."""
    return "\n\n".join(f"::: {name}" for name in names)


PARTS: dict[str, Callable[..., str]] = {
    "config": config_reference, "recipes": recipe_tables, "slips": spellings, "api": api,
}  # fmt: skip


def filled(markdown: str) -> str:
    """A page with its made parts in place."""

    def part(match: re.Match[str]) -> str:
        name, *words = match[1].split()
        return PARTS[name](*words)

    return MARK.sub(part, markdown)


def within(markdown: str) -> str:
    """A page whose links to files outside of docs/ are text, but for the README's: those lead to the page."""

    def link(match: re.Match[str]) -> str:
        text, path, anchor = match.groups()
        if path == "README.md":
            return f"[{text}]({README.get(anchor or '', 'index.md')})"
        return text if text.startswith("`") else f"{text} (`{path}`)"

    return OUTSIDE.sub(link, markdown)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """MkDocs asks for each page."""
    return within(filled(markdown))


def on_post_build(config: Any) -> None:
    """MkDocs tells that the site is there. Raises PluginError if a page of it would fetch something from elsewhere."""
    folder = Path(config["site_dir"])
    found = [f"{path.relative_to(folder)}: {what}" for path in sorted(folder.rglob("*")) for what in fetched(path)]
    if found:
        raise PluginError("the site would fetch from elsewhere:\n" + "\n".join(found))


def fetched(path: Path) -> list[str]:
    """What a page, style or picture of the site fetches from elsewhere."""
    if path.suffix not in (".html", ".css", ".svg"):
        return []
    return FETCHED.findall(path.read_text(encoding="utf-8"))
