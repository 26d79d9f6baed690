"""How a process ends: the one message a user is shown, and the exit code."""

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from lshfm.errors import InputError, RunFailed


class Terminated(BaseException):
    """SIGTERM, to be handled like KeyboardInterrupt."""


def raise_on_sigterm() -> None:
    """From now on SIGTERM raises Terminated."""
    signal.signal(signal.SIGTERM, _terminate)


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise Terminated


def code_of(work: Callable[[], int]) -> int:
    """Do `work` and return its exit code, or that of its error (1 failed, 2 input, 130/143 signals), once shown."""
    try:
        return work()
    except (InputError, RunFailed) as error:
        complain(error)
        return 2 if isinstance(error, InputError) else 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        complain(error)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Terminated:
        return 128 + signal.SIGTERM
    except Exception as error:
        if getattr(error, "shown", False):  # by another rank
            return 1
        raise


def complain(error: Exception) -> None:
    """Show an error, unless that was done already."""
    if getattr(error, "shown", False):
        return
    text = str(error)
    if isinstance(error, OSError):
        text = f"{error.strerror or error}: {error.filename or 'no file named'}"
    print(f"lshfm: error: {text}", file=sys.stderr, flush=True)
    error.shown = True  # type: ignore[attr-defined]


def raise_for(code: int) -> NoReturn:
    """Raise here what ended another process with this code, having been shown there."""
    if code == 128 + signal.SIGINT:
        raise KeyboardInterrupt
    if code == 128 + signal.SIGTERM:
        raise Terminated
    error = InputError("shown by a rank") if code == 2 else RunFailed("shown by a rank")
    error.shown = True
    raise error
