"""sweep.json of a sweep's folder, outputs/sweeps/NAME: its jobs, their commands, run folders and states."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from lshfm.errors import InputError
from lshfm.files.parse import parse_json
from lshfm.files.write import write_json

VERSION = 1


class JobState(StrEnum):
    """Where a job of a sweep stands."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"  # by a signal; the same command continues it
    PRUNED = "pruned"  # by a search, which had seen enough
    NOT_STARTED = "not started"  # a job that it needs has failed


@dataclass(frozen=True, kw_only=True)
class SweepJob:
    """A job of a sweep: one command, and the runs that it makes."""

    number: int  # from 1
    command: tuple[str, ...]  # lshfm, train or mimic, and the words as a user would type them
    settings: dict[str, str] = field(default_factory=dict)  # what tells it from the other jobs: key -> value as typed
    runs: tuple[str, ...] = ()  # run folders from the sweep's, in the order that they are made: the last one counts
    checkpoints: tuple[str, ...] = ()  # the finished checkpoint of each of `runs`, likewise
    epochs: tuple[int, ...] = ()  # of each of `runs`, likewise
    needs: tuple[int, ...] = ()  # numbers of the jobs that must have finished before
    log: str | None = None  # file in the sweep's folder with all that the job said
    state: JobState = JobState.WAITING
    device: str | None = None  # where it ran last: "GPU 0", "CPU"
    error: str | None = None  # first line of what it failed with
    started: str | None = None  # UTC: 2026-11-26T21:54:38Z
    ended: str | None = None

    def to(self, state: JobState, **changes: Any) -> Self:
        """The job in another state."""
        return replace(self, state=state, **changes)


@dataclass(frozen=True, kw_only=True)
class SweepRecord:
    """What sweep.json holds."""

    name: str
    command: str  # train or mimic
    command_line: tuple[str, ...]  # of the sweep, words as typed
    jobs: tuple[SweepJob, ...]
    trials: int | None = None  # of a search; None of a grid
    lshfm: str | None = None  # version of the package

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the sweep.json in a folder. Raises InputError if there is none, it is damaged or of a newer version."""
        path = folder / "sweep.json"
        try:
            entry = dict(parse_json(path.read_text(encoding="utf-8")))
            is_newer = entry.pop("version") > VERSION
            read = None if is_newer else cls(**(_known(cls, entry) | {"jobs": _jobs(entry["jobs"])}))
        except FileNotFoundError as error:
            raise InputError(f"{folder} is no folder of a sweep: it has no sweep.json") from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"{path} is damaged: delete it, and the same sweep writes it anew") from error
        if read is None:
            raise InputError(f"{path} was written by a newer lshfm: upgrade to read it")
        return read

    def write(self, folder: Path) -> None:
        """Write sweep.json at once. Raises RunFailed when the disk is full."""
        write_json(folder / "sweep.json", {"version": VERSION} | asdict(self))

    def run_folders(self, folder: Path) -> list[Path]:
        """The run folders whose results count, a job's last one each, for a sweep that lies in `folder`."""
        return [path for job in self.jobs for path in paths_of(folder, job.runs[-1:])]

    def with_job(self, job: SweepJob) -> Self:
        """The record with this job in place of the one of its number."""
        return replace(self, jobs=tuple(job if each.number == job.number else each for each in self.jobs))


def paths_of(folder: Path, names: Sequence[str]) -> list[Path]:
    """Runs or checkpoints that a job names, for a sweep that lies in `folder`."""
    return [Path(os.path.normpath(folder / name)) for name in names]


def _known(of: type, entry: dict[str, Any]) -> dict[str, Any]:
    """The entries that a record has fields for, lists as the tuples that they were."""
    names = {each.name for each in fields(of)}
    known = {name: value for name, value in entry.items() if name in names}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in known.items()}


def _jobs(entries: Sequence[dict[str, Any]]) -> tuple[SweepJob, ...]:
    return tuple(SweepJob(**(_known(SweepJob, entry) | {"state": JobState(entry["state"])})) for entry in entries)
