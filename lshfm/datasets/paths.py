"""Paths of many files in one folder."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any


@dataclass(frozen=True, eq=False)
class PathsWithin(Sequence[Path]):
    """Files of a folder, of which each path is made when it is asked for: 80,000 of them take half a second.

    names: relative to the folder, as pathlib writes them.
    """

    folder: str
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return tuple(map(Path, self.texts[index]))
        return Path(self.texts[index])

    def __eq__(self, other: object) -> bool:
        """Whether another sequence holds the same paths."""
        return isinstance(other, Sequence) and list(self.texts) == texts(other)

    def __hash__(self) -> int:
        return hash((self.folder, len(self)))

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """The paths as texts."""
        within = "" if self.folder == "." else os.path.join(self.folder, "")  # noqa: PTH118 - a slash at its end
        return tuple(within + name for name in self.names)


def texts(paths: Sequence[Path]) -> list[str]:
    """Paths as texts."""
    return list(paths.texts) if isinstance(paths, PathsWithin) else [str(path) for path in paths]


def absolute(path: str) -> str:
    """A path's text as that of `Path.absolute`."""
    return path if path.startswith("/") else str(Path(path).absolute())


def suffix(path: str) -> str:
    """A path's ending as `Path.suffix` has it, in small letters; in a third of its time."""
    name, _, ending = path.rpartition(".")
    if not name or name.endswith(("/", ".")) or "/" in ending:
        return Path(path).suffix.lower()
    return f".{ending.lower()}" if ending else ""
