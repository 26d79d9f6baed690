"""The errors a user is shown as one message, without a traceback, and what their texts share."""

import difflib
import re
from collections.abc import Iterable

SURROGATE = re.compile(r"[\ud800-\udfff]")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_UNPRINTABLE = re.compile(f"{SURROGATE.pattern}|{CONTROL.pattern}")
_LONGEST = 4096  # characters of a name that are shown


class InputError(Exception):
    """What the user gave cannot be used: says what is wrong, where, and what to do (exit code 2)."""

    shown = False  # whether a user has read it


class RunFailed(Exception):
    """The run itself failed, with input that was fine: NaN, a full disk (exit code 1)."""

    shown = False


def nearest(name: object, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` for the known name most like `name`, case aside, or nothing."""
    folded = {word.lower(): word for word in known}
    close = difflib.get_close_matches(str(name).lower(), folded, n=1, cutoff=0.5)
    return f" (did you mean '{folded[close[0]]}'?)" if close else ""


def printable(name: str) -> str:
    """A name for a message: what would break its line or steer a terminal is escaped, and much too much is cut."""
    cut = name if len(name) <= _LONGEST else f"{name[:40]}... ({len(name)} characters)"
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode(), cut)
