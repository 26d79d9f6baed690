"""Holds the libraries that take seconds to import, and forks the command off for tests/processes.py, its only caller.

What it forks differs from a process that a shell starts in one point alone: torch and other libraries are imported
already. `lshfm` itself is not, and what was inherited is set as it is at Python's start: environment, folder, signals,
streams, path. Only the order of sets of words is the same in all that one server forks.
"""

import atexit
import gc
import os
import pickle
import signal
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import NoReturn, Protocol

LIBRARIES_OF = ("lshfm.cli", *(f"lshfm.commands.{name}" for name in ("train", "mimic", "eval")))
ENTRY = "lshfm.__main__"


class Armed(Protocol):
    """Something that a process is to meet on its way."""

    def arm(self) -> None:
        """Set it in this process."""


@dataclass(frozen=True)
class Request:
    """A command: script is the path of `lshfm`, words what follows it, environment all there is of it."""

    script: str
    words: Sequence[str]
    folder: str
    environment: Mapping[str, str]
    trap: Armed | None = None


def serve(control: socket.socket) -> int:
    """Answer requests, each with the files for what it prints, complains of and how it ends, until nobody can ask."""
    for module in LIBRARIES_OF:
        import_module(module)
    for module in [name for name in sys.modules if name.partition(".")[0] == "lshfm"]:
        del sys.modules[module]  # a command imports its own: nothing of another one, nor of this process, is in it
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal
    keepers = 0
    while True:
        message, files, *_ = socket.recv_fds(control, 2**20, 3)
        while keepers and os.waitpid(-1, 0 if not message else os.WNOHANG)[0]:
            keepers -= 1
        if not message:
            return 0
        keepers += 1
        if os.fork() == 0:
            control.close()
            _keep(pickle.loads(message), *files)
        for file in files:
            os.close(file)


def _keep(request: Request, out: int, err: int, answer: int) -> NoReturn:
    """The command's parent: tells its process id at once and in the end its exit code."""
    command = os.fork()
    if command == 0:
        os.close(answer)
        _command(request, out, err)
    os.close(out)
    os.close(err)
    os.write(answer, b"%d\n" % command)
    os.write(answer, b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(command, 0)[1]))
    os._exit(0)


def _command(request: Request, out: int, err: int) -> NoReturn:
    os.setsid()
    for number in signal.valid_signals():
        if signal.getsignal(number) is signal.SIG_IGN and number not in {signal.SIGPIPE, signal.SIGXFSZ}:
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number, file in ((1, out), (2, err)):
        os.dup2(file, number)
        os.close(file)
    os.chdir(request.folder)
    os.environ.clear()
    os.environ.update(request.environment)
    added = [entry for entry in request.environment.get("PYTHONPATH", "").split(os.pathsep) if entry]
    script = Path(request.script)
    first = request.folder if script.name == "__main__.py" else str(script.parent)
    sys.path[:1] = [first, *(str(Path(entry).absolute()) for entry in added)]
    sys.modules["numpy"].random.seed()  # Python's own generator starts anew by itself
    sys.argv = [request.script, *request.words]
    sys.modules["__main__"].__file__ = request.script  # what a process that it spawns imports
    try:
        if request.trap:
            request.trap.arm()
        sys.exit(import_module(ENTRY).main())
    except SystemExit as ended:
        _end(ended.code)
    except BaseException:  # noqa: BLE001 - as Python shows it
        sys.excepthook(*sys.exc_info())
        _end(1)


def _end(code: object) -> NoReturn:
    """Python's end up to what anybody can see; taking its modules apart would copy most of the server's memory."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
    except OSError:
        code = 120
    os._exit(code if isinstance(code, int) else code is not None)


if __name__ == "__main__":
    sys.modules["tests.fork_server"] = sys.modules["__main__"]  # where requests are of
    sys.exit(serve(socket.socket(fileno=int(sys.argv[1]))))
