"""Lists the pictures in folders of classes, and keeps the list: a second look asks for each folder's time alone."""

import hashlib
import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lshfm.datasets.checks import require_class_name
from lshfm.errors import InputError

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".webp", ".tif", ".tiff", ".gif")
_FORMAT = 1


@dataclass(frozen=True, eq=False)
class Listing:
    """Folders below `root`, by name, with the time each was changed (ns), how many pictures it has, and their names."""

    root: Path
    folders: tuple[str, ...]
    times: tuple[int, ...]
    counts: tuple[int, ...]
    names: Sequence[str]  # of all pictures, folder by folder, each folder's by name

    def folder_of(self, number: int) -> str:
        """The folder of a picture."""
        return self.folders[int(np.searchsorted(self._ends, number, side="right"))]

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        return np.cumsum(np.array(self.counts, np.int64))

    def ids(self) -> Iterator[str]:
        """FOLDER/NAME of each picture."""
        start = 0
        for folder, count in zip(self.folders, self.counts, strict=True):
            yield from (f"{folder}/{name}" for name in self.names[start : start + count])
            start += count


def list_folders(root: Path, lists: Path | None) -> Listing:
    """The listing of a folder of folders: the kept one if no folder's time has changed, else a new one, which is kept.

    lists: where listings are kept; None keeps none. Raises InputError for what cannot be listed.
    """
    folders, times = _folders(root)
    file = None if lists is None else lists / f"list_{hashlib.sha256(str(root).encode()).hexdigest()[:16]}.json"
    kept = _read(file, root, folders, times) if file else None
    if kept is not None:
        return kept
    names = [_pictures(root / folder) for folder in folders]
    every = [name for each in names for name in each]
    found = Listing(root, folders, times, tuple(map(len, names)), every)
    if file:
        _keep(file, found)
    return found


def _folders(root: Path) -> tuple[tuple[str, ...], tuple[int, ...]]:
    try:
        with os.scandir(root) as entries:
            found = sorted((entry.name, entry.stat().st_mtime_ns) for entry in entries if entry.is_dir())
    except OSError as error:
        raise InputError(f"{root} cannot be listed: {error.strerror}") from error
    found = [(name, time) for name, time in found if not name.startswith(".")]
    for name, _ in found:
        require_class_name(f"{root}: class", name)
    return tuple(name for name, _ in found), tuple(time for _, time in found)


def _pictures(folder: Path) -> list[str]:
    """Names of the files with a picture's ending, sorted; those that cannot be written down are refused."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(e.name for e in entries if e.name.lower().endswith(ENDINGS) and not e.is_dir())
    except OSError as error:
        raise InputError(f"{folder} cannot be listed: {error.strerror}") from error
    for name in names:
        if not name.isprintable():
            raise InputError(f"{folder}: {name!r} holds characters that no name should: rename the file")
    return names


def _read(file: Path, root: Path, folders: tuple[str, ...], times: tuple[int, ...]) -> Listing | None:
    """The kept listing, if it is whole and of the same folders with the same times."""
    try:
        head, _, names = file.read_text(encoding="utf-8").partition("\n")
        saved = json.loads(head)
        every = names.split("\n") if names else []
        counts = tuple(saved["counts"])
        same = (saved["format"], saved["root"], saved["folders"], saved["times"]) == (
            _FORMAT, str(root), list(folders), list(times),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        return None
    is_whole = same and len(counts) == len(folders) and sum(counts) == len(every)
    return Listing(root, folders, times, counts, every) if is_whole else None


def _keep(file: Path, found: Listing) -> None:
    """Write a listing; where that cannot be done, it is made anew the next time."""
    from lshfm.files.write import write_bytes  # imports torch, which decode workers do without

    head = {
        "format": _FORMAT, "root": str(found.root), "folders": found.folders, "times": found.times,
        "counts": found.counts,
    }  # fmt: skip
    text = json.dumps(head) + "\n" + "\n".join(found.names)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(file, io.BytesIO(text.encode("utf-8")))
    except OSError:
        return
