"""The errors a user is shown as one message, without a traceback, and the hint they share."""

import difflib
from collections.abc import Iterable


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
