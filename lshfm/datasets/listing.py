"""Lists the pictures in folders of classes, and keeps the list: a second look asks for each folder's time alone."""

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lshfm.datasets.checks import require_class_name
from lshfm.datasets.images import digest
from lshfm.datasets.names import Names
from lshfm.errors import InputError, RunFailed
from lshfm.files.parse import parse_json

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".webp", ".tif", ".tiff", ".gif")
_FORMAT = 2
_MOST_PRINTS = 16  # of a list that are kept


@dataclass(frozen=True, eq=False)
class Listing:
    """Folders below `root`, by name, with the time each was changed (ns), how many pictures it has, and their names.

    fingerprint: hex digest of folders, counts and names. prints: a file of what else was made of the list, if it is
    kept.
    """

    root: Path
    folders: tuple[str, ...]
    times: tuple[int, ...]
    counts: tuple[int, ...]
    names: Names  # of all pictures, folder by folder, each folder's by name
    fingerprint: str
    prints: Path | None = None

    def folder_of(self, number: int) -> str:
        """The folder of a picture."""
        return self.folders[int(np.searchsorted(self._ends, number, side="right"))]

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        return np.cumsum(np.array(self.counts, np.int64))

    def id_of(self, number: int) -> str:
        """FOLDER/NAME of a picture."""
        return f"{self.folder_of(number)}/{self.names[number]}"

    def ids(self) -> Iterator[str]:
        """Those of all, in order."""
        names = iter(self.names)
        for folder, count in zip(self.folders, self.counts, strict=True):
            yield from (f"{folder}/{name}" for name in islice(names, count))

    def kept(self, key: str, make: Callable[[], str]) -> str:
        """A text that follows from the list and the key: as it is kept beside the list, else made and kept."""
        prints = _prints(self.prints)
        if key not in prints:
            prints = dict([*prints.items(), (key, make())][-_MOST_PRINTS:])
            if self.prints:
                _keep(self.prints, json.dumps(prints).encode())
        return prints[key]


def list_folders(root: Path, lists: Path | None) -> Listing:
    """The listing of a folder of folders: the kept one if no folder's time has changed, else a new one, which is kept.

    lists: where listings are kept; None keeps none. Raises InputError for what cannot be listed.
    """
    folders, times = _folders(root)
    file = None if lists is None else lists / f"list_{hashlib.sha256(str(root).encode()).hexdigest()[:16]}.json"
    kept = _read(file, root, folders, times) if file else None
    if kept is not None:
        return kept
    blocks, counts = [], []
    for folder in folders:
        names = _pictures(root / folder)
        counts.append(len(names))
        blocks.append("".join(f"{name}\n" for name in names).encode("utf-8"))
    names_of_all = Names(b"".join(blocks))
    print_ = digest([folders, counts, list(names_of_all)])
    found = Listing(root, folders, times, tuple(counts), names_of_all, print_, file and _beside(file))
    if file:
        _keep(file, _text(found))
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
        with file.open("rb") as kept:
            saved = parse_json(kept.readline())
            names = Names(kept.read())
        counts, print_ = tuple(saved["counts"]), str(saved["fingerprint"])
        same = (saved["format"], saved["root"], saved["folders"], saved["times"]) == (
            _FORMAT, str(root), list(folders), list(times),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        return None
    is_whole = same and len(counts) == len(folders) and sum(counts) == len(names)
    return Listing(root, folders, times, counts, names, print_, _beside(file)) if is_whole else None


def _beside(file: Path) -> Path:
    return file.with_name(f"{file.stem}_prints.json")


def _text(found: Listing) -> bytes:
    head = {
        "format": _FORMAT, "root": str(found.root), "folders": found.folders, "times": found.times,
        "counts": found.counts, "fingerprint": found.fingerprint,
    }  # fmt: skip
    return json.dumps(head).encode() + b"\n" + found.names.block


def _prints(file: Path | None) -> dict[str, str]:
    try:
        found = parse_json(file.read_bytes()) if file else {}
    except (OSError, ValueError):
        return {}
    is_whole = isinstance(found, dict) and all(isinstance(value, str) for value in found.values())
    return found if is_whole else {}


def _keep(file: Path, content: bytes) -> None:
    """Write what is kept; where that cannot be done, it is made anew the next time."""
    from lshfm.files.write import write_bytes  # imports torch, which decode workers do without

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(file, io.BytesIO(content))
    except (OSError, RunFailed):
        return
