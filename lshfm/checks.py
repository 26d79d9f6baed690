"""Checks of values that a user gave, shared by several rooms, with the wording of their errors."""

import math
import tempfile
from collections.abc import Iterable, Mapping, Sized
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

from lshfm.errors import FULL_DISK, InputError, nearest

T = TypeVar("T")


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether `value` is an int or a float; a bool is neither here."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_whole(value: object) -> TypeGuard[int]:
    """Whether `value` is an int; a bool is none here."""
    return isinstance(value, int) and not isinstance(value, bool)


def positive(what: str, value: object) -> int:
    """`value` as a whole number above 0; InputError otherwise."""
    if is_whole(value) and value > 0:
        return value
    raise InputError(f"{what}={value!r} must be a whole number above 0")


def fraction(what: str, value: object) -> float:
    """`value` as a number in [0, 1); InputError otherwise."""
    if is_number(value) and 0 <= value < 1:
        return float(value)
    raise InputError(f"{what}={value!r} must be a number from 0 to below 1")


def class_weights(what: str, value: object) -> list[float] | str | None:
    """`value` if it is a list of numbers above 0, one a class, or the word auto, or None; InputError otherwise."""
    if value is None or value == "auto":
        return value
    if isinstance(value, list | tuple) and value and all(is_number(v) and 0 < v < math.inf for v in value):
        return [float(v) for v in value]
    raise InputError(f"{what}={value} must be a list of finite numbers above 0, one a class, or auto")


def require_one_a_class(what: str, weights: Sized, num_classes: int) -> None:
    """InputError unless there are as many weights as classes."""
    if len(weights) != num_classes:
        raise InputError(
            f"{what} has {len(weights)} numbers and the data set {num_classes} classes: give one a class, or auto"
        )


def pick(what: str, name: object, table: Mapping[str, T]) -> T:
    """The entry of `table` called `name`; InputError with the choices if there is none."""
    require_known(what, name, table)
    return table[str(name)]


def require_known(what: str, name: object, choices: Iterable[str]) -> None:
    """InputError with the choices unless `name` is one of them."""
    if not isinstance(name, str) or name not in choices:
        raise InputError(f"{what}={name} is unknown{nearest(name, choices)}; choices: {', '.join(choices)}")


def weights_file(what: str, weights: str) -> Path:
    """The file that starting weights name as a path. InputError if there is none."""
    path = Path(weights).expanduser()
    if not path.is_file():
        hint = nearest(weights, ("imagenet", "none", "auto"))
        is_what = "is not a file" if path.exists() else f"no such file{hint}"
        raise InputError(f"{what}={weights}: {is_what}; give a file, imagenet or none")
    return path


def device_numbers(gpus: Any) -> list[int]:
    """The CUDA devices that `gpus=` names; none for the CPU. Raises InputError for what is no such list."""
    whole = isinstance(gpus, int) and not isinstance(gpus, bool)
    if whole and gpus > 0:
        return list(range(gpus))
    if whole and gpus == 0:
        raise InputError("gpus=0 could mean two things: gpus=[0] is the first GPU, gpus=[] is the CPU")
    if isinstance(gpus, list) and all(type(g) is int and g >= 0 for g in gpus) and len(set(gpus)) == len(gpus):
        return gpus
    raise InputError(f"gpus={gpus}: must be a list of device numbers as [0,1], a number n > 0, or [] for the CPU")


def look_up(path: Path) -> None:
    """Raise OSError where the disk cannot tell whether a path is there: pathlib says "no" from Python 3.14 on."""
    with suppress(FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: what no path can hold, as a NUL
        path.stat()


def require_writable(folder: Path, key: str) -> None:
    """Raise InputError naming `key` if `folder` cannot be made or written in; leaves nothing there.

    A file without a name is tried: rights alone say too little of root's, and of /proc. A full disk passes: what is
    written there says so itself.
    """
    base = folder
    try:
        look_up(folder)
        base = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
        if not base.is_dir():
            raise InputError(f"{key}: {base} is a file, so {folder} cannot be a folder; choose another {key}=")
        with tempfile.TemporaryFile(dir=base):
            pass
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise InputError(f"{key}: {base} cannot be written to ({error.strerror}); choose another {key}=") from error
