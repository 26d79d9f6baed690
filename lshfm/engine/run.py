"""The run folder: whose it is, whether it is finished, and one process at a time in it."""

import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

from lshfm.engine.files import TEMPORARY, remove_left_overs, write_json
from lshfm.errors import InputError


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
        differing = sorted(key for key in there.keys() | here.keys() if there.get(key) != here.get(key))
        is_bare = not finished and not self.last.is_file()  # no epoch was done: nothing would be lost
        if (differing and is_bare) or (overwrite and (finished or differing)):
            return Status.NEW
        if differing:
            rows = "\n".join(f"  {_difference(key, there, here)}" for key in differing)
            raise InputError(
                f"{self.path} holds a run with other settings:\n{rows}\n"
                "Give this run a name=NAME of its own, or overwrite=true to replace the other."
            )
        return Status.FINISHED if finished else Status.UNFINISHED

    @contextmanager
    def occupy(self, identity: Mapping[str, Any], *, overwrite: bool) -> Iterator[None]:
        """Hold the folder for this process while the block runs; a NEW run starts with an empty one.

        Raises InputError as `examine` does, and if another process holds the folder or has just finished the run.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(
                    f"another lshfm process is running in {self.path}; wait for it or use name=NAME"
                ) from None
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


def _difference(key: str, there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    if key.startswith("data."):
        return f"{key}: the images or labels of the {key.removeprefix('data.')} split have changed"
    return f"{key}: {there.get(key)} there, {here.get(key)} now"
