"""Which pictures a path means: a file, all of a folder, a glob's, or those that a list names."""

import glob
import os
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from lshfm.checks import look_up
from lshfm.console import logger
from lshfm.datasets.checks import read_text, require_path
from lshfm.errors import InputError, printable

LISTS = {".txt"}


def find_pictures(given: str | Path) -> list[Path]:
    """The files that `given` means, in order: a file itself; of a folder or a glob all pictures, by name, with those
    of folders in it; of a .txt file those that it names, a line each, relative to it.

    Files that a folder holds are taken by their ending; one that is named is taken whatever it is. Raises InputError
    where nothing is found.
    """
    named = str(given)
    require_path("input", named)
    path = _expanded(named)
    try:
        look_up(path)
        if path.is_dir():
            return _some(sorted(_pictures_in(path)), f"{printable(named)} holds no pictures")
        if path.is_file():
            return _some(_listed(path), f"{printable(named)} lists no pictures") if is_list(path) else [path]
    except OSError as error:
        raise InputError(f"{printable(named)}: cannot be looked up: {error.strerror}") from error
    if not glob.has_magic(named):
        what = "is neither a file nor a folder" if path.exists() else "no such file or folder"
        raise InputError(f"{printable(named)}: {what}")
    found = [Path(each) for each in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207 - it may be absolute
    files = [each for one in found for each in (sorted(_pictures_in(one)) if one.is_dir() else [one])]
    return _some(list(dict.fromkeys(files)), f"{printable(named)}: nothing is called so")


def is_list(path: Path) -> bool:
    """Whether a file is taken as a list of pictures."""
    return path.suffix.lower() in LISTS


def _expanded(named: str) -> Path:
    try:
        return Path(named).expanduser()
    except RuntimeError as error:
        raise InputError(f"{printable(named)}: {error}") from error


def _pictures_in(folder: Path) -> Iterator[Path]:
    """The files below a folder with a picture's ending; links are followed, each folder is looked into once."""
    endings = {ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    seen: set[tuple[int, int]] = set()
    for inner, folders, files in os.walk(folder, followlinks=True, onerror=_tell):
        folders.sort()
        status = Path(inner).stat()
        if (status.st_dev, status.st_ino) in seen:  # links may lead round in circles
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        yield from (Path(inner, name) for name in files if Path(name).suffix.lower() in endings)


def _tell(error: OSError) -> None:
    logger.warning("%s: %s; its pictures are left out", printable(str(error.filename)), error.strerror)


def _listed(path: Path) -> list[Path]:
    """The paths in a list; a name in it that no file has is told of as a picture that cannot be read."""
    lines = [line.strip() for line in read_text(path).splitlines()]
    return [path.parent / Path(line).expanduser() for line in lines if line]


def _some(found: list[Path], otherwise: str) -> list[Path]:
    if not found:
        raise InputError(otherwise)
    return found
