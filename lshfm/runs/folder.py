"""The run folder: the identity of its run, whether it is finished, and a lock that lets one process in at a time."""

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

from lshfm.config.changes import ONCE_COUNTED
from lshfm.console import logger
from lshfm.errors import InputError
from lshfm.files.locks import locked
from lshfm.files.parse import parse_json
from lshfm.files.write import TEMPORARY, duplicate, remove_left_overs, write_json

SECONDS_TO_LEAVE = 10.0
# key -> its value in runs of versions that did not have it
BEFORE_THERE_WAS = {
    "dataset.task": "multilabel",
    "dataset.holdout_by": "chance",
    "dataset.exif": False,
    "schedule.policy": "cosine",
    "schedule.warmup_steps": 0,
    "teacher.frozen_eps": 1e-5,
    "head_lr": 1.0,
    "loss.positions": "all",
    "loss.beta_warmup": 0.0,
    "eval_every": 1,
    "speed": "exact",
    "loss.alpha": 0.0,
    "average": 0,
    "average_bn": "mean",
    "drop_last": True,
    "augment.pad": 0,
    "augment.area": None,
    "augment.short_side": None,
    "augment.randaugment": 0,
    "augment.magnitude": 9,
    "augment.mixup": 0.0,
    "augment.cutmix": 0.0,
}
KEPT_AS_BEGUN = ("dataset.holdout_by", "dataset.exif")  # of these, keys whose default is another today
SETTLED_AT_THE_END = ("select",)  # keys that leave training as it is: an unfinished run may be given another value


class Status(Enum):
    """What a run folder holds for the settings at hand."""

    NEW = "new"
    UNFINISHED = "unfinished"
    FINISHED = "finished"
    OTHER_LENGTH = "other length"


class RunFolder:
    """A folder with identity.json (all settings that can change numbers) and, once finished, results.json."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last, self.best = path / "last.ckpt", path / "best.ckpt"
        self.results, self.metrics = path / "results.json", path / "metrics.jsonl"
        self.predictions, self.log = path / "predictions.npz", path / "log.txt"
        self._identity = path / "identity.json"
        self.unusable: list[Path] = []  # those of `lasts` that proved to be damaged

    def examine(self, identity: Mapping[str, Any], *, overwrite: bool) -> Status:
        """Compare the folder with the run that `identity` (dotted keys, plain values) describes.

        UNFINISHED: a run of the same settings, to be continued. OTHER_LENGTH: a run, finished or not, with another
        number of epochs, to be continued. NEW: nothing worth keeping, or `overwrite` was given.
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
        saved, current = self.identity(), _as_read(identity)
        ends = () if finished else SETTLED_AT_THE_END
        differing = [key for key in differing_keys(saved, current) if key not in ends]
        is_bare = not finished and not self.lasts()  # no epoch was done: nothing would be lost
        if (differing and is_bare) or (overwrite and (finished or differing)):
            return Status.NEW
        if differs_in_length_alone(saved, current):
            return Status.OTHER_LENGTH
        if differing:
            rows = "\n".join(f"  {_difference(key, saved, current)}" for key in differing)
            raise InputError(
                f"{self.path} holds a run with other settings:\n{rows}\n"
                "Give this run a name=NAME of its own, or overwrite=true to replace the other."
            )
        return Status.FINISHED if finished else Status.UNFINISHED

    def is_of(self, identity: Mapping[str, Any], *, but_for_its_length: bool = False) -> bool:
        """Whether a run with these settings lies here, finished or not; False for what cannot be read.

        but_for_its_length: one with another number of epochs, rather.
        """
        if not self._identity.is_file():
            return False
        try:
            saved = self.identity()
            current = _as_begun(saved, _as_read(identity))
        except InputError:
            return False
        return differs_in_length_alone(saved, current) if but_for_its_length else not differing_keys(saved, current)

    def as_begun(self, identity: Mapping[str, Any], *, overwrite: bool) -> dict[str, Any]:
        """The identity, with what its keys mean to the run that lies here, if an older version has begun that one.

        overwrite: whether another run's folder, or a finished one's, is to be emptied.
        """
        if not self._identity.is_file():
            return dict(identity)
        saved = self.identity()
        begun = _as_begun(saved, identity)
        is_anew = overwrite and (self.results.is_file() or bool(differing_keys(saved, _as_read(begun))))
        return dict(identity) if is_anew else begun

    def lasts(self) -> list[Path]:
        """The paths of last.ckpt and of the older ones that were kept (last-1.ckpt and so on), the newest first."""
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
            if not _locked(lock.fileno(), self.path / ".lock"):
                raise InputError(f"another lshfm process is running in {self.path}; wait for it or use name=NAME")
            status = self.examine(identity, overwrite=overwrite)  # again: another process may have been here
            if status is Status.FINISHED:
                raise InputError(f"another lshfm process has just finished {self.path}; overwrite=true trains it again")
            if status is Status.NEW:
                self._empty()
                write_json(self._identity, identity)
            if status is Status.OTHER_LENGTH:
                self.reopen()  # first: a kill in between leaves an unfinished run of the length before
                write_json(self._identity, identity)
            elif differing_keys(saved := self.identity(), _as_read(identity)):
                write_json(self._identity, saved | {key: identity[key] for key in SETTLED_AT_THE_END})
            remove_left_overs(self.path)
            yield

    def reopen(self) -> None:
        """Make a finished run unfinished: without results.json it is finished again from its last checkpoint."""
        self.results.unlink(missing_ok=True)

    def identity(self) -> dict[str, Any]:
        """All settings of the run that can change numbers. Raises InputError where the file is damaged."""
        try:
            return dict(parse_json(self._identity.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise InputError(f"{self._identity} is damaged: delete {self.path} to start that run anew") from error

    def _empty(self) -> None:
        self.results.unlink(missing_ok=True)  # first, so that a kill here leaves no finished run behind
        for path in sorted(self.path.iterdir(), key=lambda path: path == self._identity):  # last: it says whose folder
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != ".lock":
                path.unlink()


def _as_read(identity: Mapping[str, Any]) -> dict[str, Any]:
    """An identity as a file would give it back."""
    return dict(json.loads(json.dumps(identity)))


def _as_begun(saved: Mapping[str, Any], identity: Mapping[str, Any]) -> dict[str, Any]:
    older = {
        key: BEFORE_THERE_WAS[key]
        for key in KEPT_AS_BEGUN
        if key not in saved and identity.get(key) not in (None, BEFORE_THERE_WAS[key])
    }
    return {**identity, **older}


def differing_keys(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """The settings in which two runs' identities differ."""
    return sorted(key for key in there.keys() | here.keys() if not _same(key, there, here))


def differs_in_length_alone(there: Mapping[str, Any], here: Mapping[str, Any]) -> bool:
    """Whether two runs' identities differ in the number of epochs, and in a cosine as long as that, alone."""
    differing = differing_keys(there, here)
    follows = all(each.get("schedule.cosine_epochs") == each.get("epochs") for each in (there, here))
    return differing == ["epochs"] or (follows and differing == ["epochs", "schedule.cosine_epochs"])


def _same(key: str, saved: Mapping[str, Any], current: Mapping[str, Any]) -> bool:
    if key in ONCE_COUNTED:
        return True
    if key in saved and key in current:
        return bool(saved[key] == current[key])
    # A switch that an older version did not have is off.
    return saved.get(key, current.get(key)) in (None, False, BEFORE_THERE_WAS.get(key))


def _locked(lock: int, path: Path) -> bool:
    """Try to take the lock; waits SECONDS_TO_LEAVE for ranks that are still saving after their parent was killed."""
    end, is_said = time.monotonic() + SECONDS_TO_LEAVE, False
    while not locked(lock, path):
        if time.monotonic() > end:
            return False
        if not is_said:
            logger.info("another lshfm process is there; waiting up to %.0f s for it to leave", SECONDS_TO_LEAVE)
            is_said = True
        time.sleep(0.1)
    return True


def _difference(key: str, saved: Mapping[str, Any], current: Mapping[str, Any]) -> str:
    if key.startswith("data."):
        return f"{key}: the images or labels of the {key.removeprefix('data.')} split have changed"
    return f"{key}: {saved.get(key)} there, {current.get(key)} now"
