"""Turns labels and other texts into names of files."""

import re
from collections.abc import Sequence


def plain(text: str) -> str:
    """The text with everything but letters, digits and ._- replaced: nothing in it leads to another folder."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)


def distinct(labels: Sequence[str]) -> list[str]:
    """Labels as parts of file names: plain, and still different from each other."""
    names = [plain(label) for label in labels]
    return [f"{n}-{i}" if names.count(n) > 1 else n for i, n in enumerate(names)]
