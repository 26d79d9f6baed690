"""where= and sort= of `lshfm runs`: comparisons of a run's columns and settings."""

import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from lshfm.errors import InputError, nearest
from lshfm.runs.listing import COLUMNS, Listed, shown

_COMPARISON = re.compile(r"\s*([\w.]+)\s*(!=|<=|>=|=|<|>)\s*(.*?)\s*")
_ORDERS: dict[str, Callable[[float, float], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def matching(runs: Sequence[Listed], where: str) -> list[Listed]:
    """The runs that fit all of `KEY=VALUE,KEY>VALUE,...`; texts may hold * and ?. Raises InputError."""
    tests = [_test(part, runs) for part in _parts(where)]
    return [run for run in runs if all(test(run) for test in tests)]


def _parts(where: str) -> list[str]:
    """Comparisons apart by commas; a comma that no comparison follows is of a value: lr=0.1,loss=[l2,kl]."""
    return [part for part in re.split(r",(?=\s*[\w.]+\s*(?:!=|<|>|=))", where) if part.strip()]


def _test(part: str, runs: Sequence[Listed]) -> Callable[[Listed], bool]:
    match = _COMPARISON.fullmatch(part)
    if not match:
        raise InputError(f"where={part}: takes KEY=VALUE, KEY!=VALUE, KEY>VALUE and so on, with commas between them")
    key, sign, wanted = match.groups()
    require_key(key, runs, "where")
    if sign not in _ORDERS:
        return lambda run: _equals(run.value(key), wanted) is (sign == "=")
    bound = _number(wanted)
    if bound is None:
        raise InputError(f"where={part}: {wanted} is no number")
    order = _ORDERS[sign]
    return lambda run: (value := _number(run.value(key))) is not None and order(value, bound)


def require_key(key: str, runs: Sequence[Listed], word: str) -> None:
    """InputError for a key that no run has."""
    if runs and key not in (*COLUMNS, "epochs") and all(run.value(key) is None for run in runs):
        known = {*COLUMNS, *(name for run in runs for name in run.settings)}
        raise InputError(f"{word}={key}: no run has such a key{nearest(key, known)}")


def _equals(value: Any, wanted: str) -> bool:
    number = _number(wanted)
    if number is not None and isinstance(value, int | float) and not isinstance(value, bool):
        return bool(value == number)
    return value is not None and fnmatchcase(shown(value), wanted.replace("[", "[[]"))


def _number(value: Any) -> float | None:
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None


def in_order(runs: Sequence[Listed], key: str) -> list[Listed]:
    """The runs by a key, best scores first and else from low to high, turned around by a - in front."""
    name = key.removeprefix("-")
    require_key(name, runs, "sort")
    known = [run for run in runs if run.value(name) is not None]
    others = [run for run in runs if run.value(name) is None]
    is_down = (name == "score") is not key.startswith("-")
    numeric = all(_number(run.value(name)) is not None for run in known)
    return [
        *sorted(known, key=lambda run: run.value(name) if numeric else shown(run.value(name)), reverse=is_down),
        *others,
    ]
