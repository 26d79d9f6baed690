"""A job as a process of its own, which ends with the sweep: at its order, and if the sweep itself is killed."""

import ctypes
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

PR_SET_PDEATHSIG = 1  # of Linux's prctl
INPUT, STOPPED = 2, {128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGINT, -signal.SIGTERM}
_ERROR = "lshfm: error: "


class Process:
    """`lshfm WORDS...` with all that it says in a file, in a session of its own: Ctrl-C is the sweep's to pass on."""

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        self.log = log
        with log.open("ab") as said:
            said.write(f"$ {shlex.join(command)}\n".encode())
            said.flush()
            self._begins = said.tell()
            # -P: as for the script `lshfm`, modules do not come from the folder that it is started in.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", *command], stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT,
                env=environment, start_new_session=True, preexec_fn=_ends_with_parent(),
            )  # fmt: skip

    def poll(self) -> int | None:
        """The exit code, or minus the number of the signal that ended it; None while it runs."""
        return self._process.poll()

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Ask it to save and end; a second time, to end at once. SIGKILL ends all that it has started, too."""
        with suppress(ProcessLookupError, PermissionError):
            if number == signal.SIGKILL:
                os.killpg(self._process.pid, number)
            elif self._process.poll() is None:
                self._process.send_signal(number)

    def error(self) -> str:
        """The first line of what it failed with."""
        code = self.poll()
        if code is not None and code < 0:
            return f"ended by {signal.Signals(-code).name}" + (" (no memory left?)" if code == -signal.SIGKILL else "")
        with self.log.open("rb") as said:
            said.seek(self._begins)
            lines = said.read().decode(errors="replace").splitlines()
        shown = [line.removeprefix(_ERROR) for line in lines if line.startswith(_ERROR)]
        return shown[-1] if shown else next((line for line in reversed(lines) if line.strip()), f"exit code {code}")


def _ends_with_parent() -> Callable[[], None] | None:
    """For preexec_fn: Linux sends the process SIGTERM, on which it saves, when its parent dies in whatever way."""
    if sys.platform != "linux":
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died in between
            os._exit(128 + signal.SIGTERM)

    return ask
