"""What a user's values must hold before a network is built from them."""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

from lshfm.errors import InputError

T = TypeVar("T")


def nearest(name: object, names: Iterable[str]) -> str:
    """The words " (did you mean ...?)" with up to three names near `name`, or nothing; case is ignored."""
    folded = {known.lower(): known for known in names}
    close = [folded[match] for match in difflib.get_close_matches(str(name).lower(), folded)]
    return f" (did you mean {' or '.join(close)}?)" if close else ""


def pick(what: str, name: object, table: Mapping[str, T]) -> T:
    """The entry of `table` called `name`; InputError with the choices if there is none."""
    if isinstance(name, str) and name in table:
        return table[name]
    raise InputError(f"{what}={name} is unknown{nearest(name, table)}; choices: {', '.join(table)}")


def positive(what: str, value: object) -> int:
    """`value` as a whole number above 0; InputError otherwise (True is no number here)."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    raise InputError(f"{what}={value!r} must be a whole number above 0")
