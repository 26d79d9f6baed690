"""Where a command is to meet a signal, or a full disk: traps that are armed in its process before it starts."""

import errno
import importlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The places of the package that tests trap.
STEP = "lshfm.engine.state:State.update"
PREDICT = "lshfm.tasks.images:predict"
FILES, TRAINING, HASHING = "lshfm.files.write", "lshfm.runs.training", "lshfm.mimicking.hashing"
STORE = "lshfm.datasets.store_file:StoreFile"
LINE, RESULTS = "lshfm.runs.record:append_line", "lshfm.runs.record:write_json"
IDENTITY = "lshfm.runs.folder:write_json"
STAGE = "lshfm.commands.mimic:Stage.run"
TARGETS = "lshfm.losses.classification:targets"
WAITING_FOR_ANOTHER = "lshfm.runs.folder.SECONDS_TO_LEAVE"  # to be replaced


@dataclass(frozen=True)
class Trap:
    """A signal at the `call`-th call of a function, named as module:attribute; before it, after it, or half way.

    half: of what the function, a writer of (path, bytes or text), should have written. full: instead of a signal, it
    finds the disk full from this call on.
    """

    where: str
    call: int = 1
    when: str = "before"
    signal: int = signal.SIGKILL

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
            call = next(calls)
            if self.when == "full" and call >= self.call:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(arguments[0]))
            if self.when == "full" or call != self.call:
                return original(*arguments, **keywords)
            if self.when == "half":
                write_half(*arguments)
            result = original(*arguments, **keywords) if self.when == "after" else None
            os.kill(os.getpid(), self.signal)
            return result if self.when == "after" else original(*arguments, **keywords)

        setattr(owner, name, trapped)


def write_half(path: Path, content: Any) -> None:
    """What a killed writer leaves, under its own name or under the temporary one."""
    if isinstance(content, str):  # append_line
        with path.open("a") as file:
            file.write(content[: len(content) // 2])
    else:  # write_bytes
        path.with_name(f".{path.name}.tmp").write_bytes(content.getvalue()[: content.getbuffer().nbytes // 2])
