"""The run folder: whose it is, whether it is finished, and one process at a time in it."""

import fcntl
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

from lshfm.console import logger
from lshfm.errors import InputError
from lshfm.files.write import TEMPORARY, duplicate, remove_left_overs, write_json

SECONDS_TO_LEAVE = 10.0


class Status(Enum):
    """What a run folder holds for the settings at hand."""

    NEW = "new"
    UNFINISHED = "unfinished"
    FINISHED = "finished"


class RunFolder:
    """A folder with identity.json (all settings that can change numbers) and, once finished, results.json."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last, self.best = path / "last.ckpt", path / "best.ckpt"
        self.results, self.metrics = path / "results.json", path / "metrics.jsonl"
        self._identity = path / "identity.json"
        self.unusable: list[Path] = []  # of `lasts`: found to be damaged

    def examine(self, identity: Mapping[str, Any], *, overwrite: bool) -> Status:
        """Compare the folder with the run that `identity` (dotted keys, plain values) describes.

        An unfinished run of the same settings is continued; `overwrite` makes way for anything else.
        Raises InputError showing what differs, with what to do.
        """
        started = {".lock", TEMPORARY.format(self._identity.name)}  # all that a run killed at its start leaves
        if not self.path.exists() or {path.name for path in self.path.iterdir()} <= started:
            return Status.NEW
        if not self._identity.is_file():
            raise InputError(
                f"{self.path} exists and is not a run of lshfm: choose another name=NAME or output_dir=DIR"
            )
        finished = self.results.is_file()
        there = self._read_identity()
        here = json.loads(json.dumps(identity))  # as it would be read back
        differing = differing_keys(there, here)
        is_bare = not finished and not self.lasts()  # no epoch was done: nothing would be lost
        if (differing and is_bare) or (overwrite and (finished or differing)):
            return Status.NEW
        if differing:
            rows = "\n".join(f"  {_difference(key, there, here)}" for key in differing)
            raise InputError(
                f"{self.path} holds a run with other settings:\n{rows}\n"
                "Give this run a name=NAME of its own, or overwrite=true to replace the other."
            )
        return Status.FINISHED if finished else Status.UNFINISHED

    def lasts(self) -> list[Path]:
        """last.ckpt and the older ones that were kept, the newest first."""
        older = sorted(self.path.glob("last-*.ckpt"), key=lambda path: (len(path.name), path.name))
        return ([self.last] if self.last.is_file() else []) + older

    def shift_lasts(self, keep: int) -> None:
        """Before a new last.ckpt replaces it, keep the newest usable one as last-1.ckpt and so on, `keep` in all."""
        usable = [path for path in self.lasts() if path not in self.unusable]
        names = [self.path / f"last-{age}.ckpt" for age in range(1, keep)]
        for path, name in reversed(list(zip(usable, names, strict=False))):
            if path != name:
                duplicate(path, name)
        for path in self.lasts():
            if path not in (self.last, *names, *usable[:1]):  # never a moment without one to go on from
                path.unlink()
        self.unusable = []

    @contextmanager
    def occupy(self, identity: Mapping[str, Any], *, overwrite: bool) -> Iterator[None]:
        """Hold the folder for this process while the block runs; a NEW run starts with an empty one.

        Raises InputError as `examine` does, and if another process holds the folder or has just finished the run.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("w") as lock:
            if not _locked(lock.fileno()):
                raise InputError(f"another lshfm process is running in {self.path}; wait for it or use name=NAME")
            status = self.examine(identity, overwrite=overwrite)  # again: another process may have been here
            if status is Status.FINISHED:
                raise InputError(f"another lshfm process has just finished {self.path}; overwrite=true trains it again")
            if status is Status.NEW:
                self._empty()
                write_json(self._identity, identity)
            remove_left_overs(self.path)
            yield

    def _read_identity(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self._identity.read_text()))
        except (ValueError, TypeError) as error:
            raise InputError(f"{self._identity} is damaged: delete {self.path} to start that run anew") from error

    def _empty(self) -> None:
        self.results.unlink(missing_ok=True)  # first, so that a kill here leaves no finished run behind
        for path in sorted(self.path.iterdir(), key=lambda path: path == self._identity):  # last: it says whose folder
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != ".lock":
                path.unlink()


def differing_keys(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """The settings in which two runs' identities differ."""
    return sorted(key for key in there.keys() | here.keys() if not _same(key, there, here))


def _same(key: str, there: Mapping[str, Any], here: Mapping[str, Any]) -> bool:
    if key in there and key in here:
        return bool(there[key] == here[key])
    return there.get(key, here.get(key)) in (None, False)  # a switch that an older version did not have is off


def _locked(lock: int) -> bool:
    """Whether the lock could be taken, at once or while ranks whose parent was killed are still saving."""
    end, is_said = time.monotonic() + SECONDS_TO_LEAVE, False
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                return False
            if not is_said:
                logger.info("another lshfm process is there; waiting up to %.0f s for it to leave", SECONDS_TO_LEAVE)
                is_said = True
            time.sleep(0.1)
        else:
            return True


def _difference(key: str, there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    if key.startswith("data."):
        return f"{key}: the images or labels of the {key.removeprefix('data.')} split have changed"
    return f"{key}: {there.get(key)} there, {here.get(key)} now"
