"""Errors that a user is shown as one message without a traceback, and helpers that word such messages."""

import difflib
import errno
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import ClassVar

SURROGATE = re.compile(r"[\ud800-\udfff]")
# Beside control characters those that turn the direction of what follows them.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_UNPRINTABLE = re.compile(f"{SURROGATE.pattern}|{CONTROL.pattern}")
FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})  # what a disk without room answers
_LONGEST = 4096  # characters of a name that are shown

_group: ContextVar[str] = ContextVar("group", default="")


class LshfmError(Exception):
    """An error that ends the command with one message and an exit code."""

    code: ClassVar[int]
    shown: bool = False  # whether its message has been printed, by this process or another rank
    of_all: bool = False  # whether every rank raises the same error


class InputError(LshfmError):
    """What the user gave cannot be used: says what is wrong, where, and what to do."""

    code = 2


class RunFailed(LshfmError):
    """The run itself failed, with input that was fine: NaN, a full disk."""

    code = 1


@contextmanager
def at(group: str) -> Iterator[None]:
    """Within the block, messages name parameters as keys of this settings group; "" for no group.

    The group is read when a message is made: a generator created in the block and consumed after it has no group.
    """
    token = _group.set(group)
    try:
        yield
    finally:
        _group.reset(token)


def parameter(name: str) -> str:
    """A parameter's name for a message: `root`, within `at("dataset")` `dataset.root`."""
    group = _group.get()
    return f"{group}.{name}" if group else name


def option(otherwise: str) -> str:
    """The name of the group that an option is chosen from, for a message: the one of `at`, else `otherwise`."""
    return _group.get() or otherwise


def nearest(name: object, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` for the known name most like `name`, case aside, or nothing."""
    folded = {word.lower(): word for word in known}
    wanted = str(name).lower()
    # The start of a long name, as a run's without its settings, is less like it than other short names.
    begun = [word for word in sorted(folded, key=len) if len(wanted) > 7 and word.startswith(wanted)]
    close = begun or difflib.get_close_matches(wanted, folded, n=1, cutoff=0.5)
    return f" (did you mean '{folded[close[0]]}'?)" if close else ""


def printable(name: str) -> str:
    """A name for a message: what would break its line or steer a terminal is escaped, and much too much is cut."""
    cut = name if len(name) <= _LONGEST else f"{name[:40]}... ({len(name)} characters)"
    return escaped(cut)


def escaped(text: str) -> str:
    """A text of any length without what would break its line, steer a terminal, or can't be written as UTF-8."""
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode(), text)


def count(number: int, thing: str, things: str = "") -> str:
    """A number of things: "1 class", "2 classes". things: the plural where it takes more than an s."""
    return f"{number} {thing if number == 1 else things or f'{thing}s'}"
