"""What a user's values must hold before a network is built from them."""

from collections.abc import Mapping
from typing import TypeVar

from lshfm.errors import InputError, nearest

T = TypeVar("T")


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
