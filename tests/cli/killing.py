"""Commands in processes that kill themselves where they are told to.

A fork server holds torch and lshfm, so that a command starts in hundredths of a second.
"""

import errno
import importlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from lshfm import cli

PRELOADED = ["tests.cli.killing", "lshfm.commands.train", "lshfm.commands.mimic", "lshfm.commands.eval"]
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(PRELOADED)


@dataclass(frozen=True)
class Trap:
    """Death at the `call`-th call of a function, named as module:attribute; before it, after it, or half way.

    half: of what the function, a writer of (path, bytes or text), should have written. full: instead of dying, it
    finds the disk full from this call on.
    """

    where: str
    call: int = 1
    when: str = "before"

    def arm(self) -> None:
        """Set the trap in this process."""
        module, _, dotted = self.where.partition(":")
        owner: Any = importlib.import_module(module)
        *parents, name = dotted.split(".")
        for parent in parents:
            owner = getattr(owner, parent)
        original = getattr(owner, name)
        calls = iter(range(1, 10**9))

        def trapped(*arguments: Any, **keywords: Any) -> Any:
            if next(calls) < self.call:
                return original(*arguments, **keywords)
            if self.when == "full":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(arguments[0]))
            if self.when == "after":
                original(*arguments, **keywords)
            if self.when == "half":
                write_half(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)
            return None

        setattr(owner, name, trapped)


def write_half(path: Path, content: Any) -> None:
    """What a killed writer leaves, under its own name or under the temporary one."""
    if isinstance(content, str):  # append_line
        with path.open("a") as file:
            file.write(content[: len(content) // 2])
    else:  # write_bytes
        path.with_name(f".{path.name}.tmp").write_bytes(content.getvalue()[: content.getbuffer().nbytes // 2])


def _command(folder: str, words: list[str], environment: dict[str, str], trap: Trap | None, output: str) -> None:
    os.setsid()
    os.chdir(folder)
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with open(output, "a") as file:  # noqa: PTH123
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = ["lshfm", *words]
    if trap:
        trap.arm()
    code = cli.main()
    sys.stdout.flush()
    os._exit(code)


Command = Callable[..., ForkServerProcess]


def begin(folder: Path, *words: str, environment: dict[str, str], trap: Trap | None = None) -> ForkServerProcess:
    """Start a command in `folder`; what it says is appended to folder/said."""
    process = context.Process(target=_command, args=(str(folder), list(words), environment, trap, str(folder / "said")))
    process.start()
    return process
