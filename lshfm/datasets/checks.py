"""Checks that every reader makes of the names and files a user gave, and the words for what is wrong."""

import re
import stat
from collections.abc import Iterable
from pathlib import Path

from lshfm.checks import is_whole, look_up
from lshfm.errors import CONTROL, SURROGATE, InputError, nearest, parameter, printable

_LONGEST_PATH = 4096  # bytes, of which a character is one or more
_LONGEST_CLASS = 200
_PLAIN_NAME = re.compile(r"\w[\w.-]*")
_FILE_STEM = re.compile(r"\w[\w .,+()-]*")


def require_choice(what: str, value: str, choices: tuple[str, ...]) -> None:
    """InputError unless `value` is one of the choices."""
    if value not in choices:
        raise InputError(f"{what}={value} is not one of {', '.join(choices)}{nearest(value, choices)}")


def require_text(what: str, value: object) -> None:
    """InputError unless `value` is a text."""
    if not isinstance(value, str):
        raise InputError(f"{what}={value} must be a text")


def require_whole(what: str, value: object, low: int, high: int) -> None:
    """InputError unless `value` is a whole number within these bounds."""
    if not is_whole(value):
        raise InputError(f"{what}={value} must be a whole number")
    if not low <= value <= high:
        raise InputError(f"{what}={value} must be at {f'least {low}' if value < low else f'most {high}'}")


def require_plain(what: str, name: str) -> None:
    """InputError unless `name` is a single name that can't lead out of the folder it is looked up in."""
    if not _PLAIN_NAME.fullmatch(name):
        raise InputError(f"{what} {name!r} is not a plain name (letters, digits, '.', '_' and '-')")


def require_file_stem(what: str, name: str) -> None:
    """InputError unless `name` is a plain name, or one with blanks and the like, that can't lead out of a folder."""
    _require_short(what, name, 250)
    if not _FILE_STEM.fullmatch(name):
        raise InputError(f"{what} {name!r} is not a plain name (letters, digits, blanks and any of . _ - , + ( ))")


def require_encodable(what: str, text: str) -> None:
    """InputError if `text` holds a lone surrogate: JSON can spell it, but it can't be written to any file."""
    if SURROGATE.search(text):
        raise InputError(f"{what} {text!r} holds half a character (a lone surrogate), which is no Unicode text")


def require_path(what: str, text: str) -> None:
    """InputError if `text` can't be the path of any file."""
    require_encodable(what, text)
    _require_short(what, text, _LONGEST_PATH)
    if "\0" in text:
        raise InputError(f"{what} {text!r} holds a NUL, which no file's name can")


def require_class_name(what: str, name: str) -> None:
    """InputError if `name` can't stand in a table or a file's name: empty, too long, line breaks, surrogates."""
    require_encodable(what, name)
    _require_short(what, name, _LONGEST_CLASS)
    if CONTROL.search(name):
        raise InputError(f"{what} {name!r} holds a control character or a line break")
    if not name.strip():
        raise InputError(f"{what} {name!r} is no name")


def _require_short(what: str, text: str, most: int) -> None:
    if len(text) > most:
        raise InputError(f"{what} {text[:40]!r}... has {len(text)} characters; {most} are the most")


def require_unique(what: str, names: Iterable[str]) -> None:
    """InputError that names the first repeated name."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InputError(f"{what} {name!r} is there twice")
        seen.add(name)


def first_five(names: Iterable[str]) -> str:
    """The names as a list for a message, cut after the fifth with how many more there are."""
    listed = [printable(name) for name in names]
    more = f" and {len(listed) - 5} more" if len(listed) > 5 else ""
    return ", ".join(listed[:5]) + more


def contents(folder: Path) -> str:
    """A sentence on what a folder holds, hidden files aside."""
    try:
        found = (entry for entry in folder.iterdir() if not entry.name.startswith("."))
        names = sorted(entry.name + "/" * entry.is_dir() for entry in found)
    except FileNotFoundError:
        return f"There is no {folder}"
    except OSError as error:
        return f"{folder} cannot be listed: {error.strerror}"
    return f"{folder} holds {first_five(names) or 'nothing'}"


def find_root(root: str | Path) -> Path:
    """The folder that `root` names, absolute. InputError if it names nothing that a folder can be called."""
    name = parameter("root")
    if not isinstance(root, Path):
        require_text(name, root)
    if not str(root).strip():
        raise InputError(f"{name} is empty: give the data set's folder, {name}=. for the current one")
    try:
        folder = Path(root).expanduser().absolute()
        look_up(folder)
    except RuntimeError as error:
        raise InputError(f"{name}={root}: {error}") from error
    except OSError as error:
        raise InputError(f"{name}={printable(str(root))} cannot be looked up: {error.strerror}") from error
    if folder.is_file():
        raise InputError(f"{name}={printable(str(root))} is a file: give the folder that it lies in")
    return folder


def read_bytes(path: Path) -> bytes:
    """What a regular file holds; others, such as a FIFO, could block. InputError if it can't be read."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError(f"{path} is not a regular file")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


def read_text(path: Path) -> str:
    """A UTF-8 file, with or without a byte order mark. InputError if it can't be read or isn't text."""
    data = read_bytes(path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}, line {line}: not UTF-8 text; save it as UTF-8") from error
