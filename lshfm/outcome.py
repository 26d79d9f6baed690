"""How a process ends: the one message a user is shown, and the exit code."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from rich.console import Console
from rich.text import Text

from lshfm.errors import InputError, LshfmError, RunFailed


class Terminated(BaseException):
    """SIGTERM, to be handled like KeyboardInterrupt."""


def raise_on_sigterm() -> None:
    """From now on SIGTERM raises Terminated."""
    signal.signal(signal.SIGTERM, _terminate)


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise Terminated


@contextmanager
def signals_end_at_once() -> Iterator[None]:
    """While the block waits outside Python, which then handles no signal, SIGINT and SIGTERM end the process itself."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    heeded = {number: handler for number, handler in handlers.items() if handler not in (signal.SIG_IGN, None)}
    for number in heeded:
        signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in heeded.items():
            signal.signal(number, handler)


def code_of(work: Callable[[], int]) -> int:
    """Do `work` and return its exit code, or that of the error or signal that ended it, after showing the error.

    Codes: 1 failed, 2 input, 130 and 143 after SIGINT and SIGTERM. Raises what no user can be told in one message.
    """
    try:
        return work()
    except LshfmError as error:
        complain(error)
        return error.code
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
        if getattr(error, "shown", False):  # another rank has shown it
            return 1
        raise


def complain(error: Exception) -> None:
    """Print an error's message to stderr, unless that was done already."""
    if getattr(error, "shown", False):
        return
    said = Text.assemble(("lshfm: error:", "bold red"), f" {message_of(error)}")
    Console(stderr=True, soft_wrap=True).print(said)
    error.shown = True  # type: ignore[attr-defined]


def message_of(error: Exception) -> str:
    """What a user is told of an error."""
    if isinstance(error, OSError):
        return f"{error.strerror or error}: {error.filename or 'no file named'}"
    return str(error)


def raise_for(code: int) -> NoReturn:
    """Raise the error or signal that ended another process with this exit code; that process has shown the message."""
    if code == 128 + signal.SIGINT:
        raise KeyboardInterrupt
    if code == 128 + signal.SIGTERM:
        raise Terminated
    error = (InputError if code == InputError.code else RunFailed)("shown by a rank")
    error.shown = True
    raise error
