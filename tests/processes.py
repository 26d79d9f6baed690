"""Processes as a user starts them, however the tests were started: fresh ones, and ones forked off a server.

Starting Python and importing torch takes seconds of computing, forking hundredths of one. Fresh ones are for tests of
the start itself, of streams that are closed, and of other programs.
"""

import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import IO

from tests import fork_server
from tests.fork_server import Armed, Request

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = Path(sys.executable).with_name("lshfm")
COMMAND = SCRIPT if SCRIPT.exists() else ROOT / "lshfm/__main__.py"  # not installed: as `python -m lshfm`


def usual_signals() -> None:
    """For `preexec_fn`: what is sent ends the process, also if the tests run under nohup or in the background."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)


def fresh(*words: str, folder: Path, environment: Mapping[str, str]) -> "subprocess.Popen[str]":
    """`lshfm WORDS...` in an interpreter and a process group of its own."""
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [SCRIPT, *words], cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True,
        start_new_session=True, preexec_fn=usual_signals,
    )  # fmt: skip


class Process:
    """`lshfm WORDS...` in a process group of its own, forked off the server.

    said: a file to which both streams are appended; without it, `communicate` has what came of each.
    """

    def __init__(
        self, *words: str, folder: Path, environment: Mapping[str, str], trap: Armed | None = None,
        said: Path | None = None,
    ) -> None:  # fmt: skip
        request = Request(str(COMMAND), words, str(folder), dict(environment), trap)
        self._streams = [said.open("a+b") if said else _file() for _ in range(2)]
        ours, theirs = os.pipe()
        socket.send_fds(_server()[0], [pickle.dumps(request)], [*(file.fileno() for file in self._streams), theirs])
        os.close(theirs)
        self._answer = os.fdopen(ours)
        self.pid = int(self._answer.readline())
        self.returncode: int | None = None
        self._texts: list[str] = []

    def wait(self, seconds: float | None = None) -> int | None:
        """The exit code, or minus the signal's number; None if it still runs after so many seconds."""
        if self.returncode is None and select.select([self._answer], [], [], seconds)[0]:
            self.returncode = int(self._answer.readline())
            self._texts = [_all(file) for file in self._streams]
            for file in (self._answer, *self._streams):
                file.close()
        return self.returncode

    def wait_for_output(self, text: str) -> None:
        """Wait until it has printed so."""
        while text not in _all(self._streams[0]):
            assert self.wait(0.05) is None, self.communicate()

    def poll(self) -> int | None:
        """The exit code if it has ended."""
        return self.wait(0)

    def communicate(self) -> tuple[str, str]:
        """Wait for its end; what it has printed, and what it complained of."""
        self.wait()
        out, err = self._texts
        return out, err

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill what is left of its process group, and wait for its end."""
        if self.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
            self.wait()

    def wait_until_stopped(self) -> None:
        """Wait until a SIGSTOP has stopped it."""
        while Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            assert self.wait(0.01) is None, self.communicate()


def _file() -> IO[bytes]:
    return tempfile.TemporaryFile()  # in no folder that a test looks into


def _all(file: IO[bytes]) -> str:
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode()


@cache
def _server() -> tuple[socket.socket, "subprocess.Popen[bytes]"]:
    """Where to ask the server, and the server."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(
        [sys.executable, fork_server.__file__, str(theirs.fileno())], cwd="/", env=environment,
        stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], preexec_fn=usual_signals,
    )  # fmt: skip
    theirs.close()
    return ours, server


def end_server() -> None:
    """Wait for its end, if there is one: what it and its commands have computed counts as this process's children's."""
    if _server.cache_info().currsize:
        control, server = _server()
        control.close()
        server.wait()
        _server.cache_clear()
