"""What lies in the folders of runs: states, numbers and settings, read from a few small files of each; no torch."""

import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from lshfm.engine.lines import EpochLine
from lshfm.errors import InputError
from lshfm.files.locks import is_locked
from lshfm.runs.folder import RunFolder, differing_keys
from lshfm.runs.record import Results, read_line

COMMANDS = ("train", "mimic")
END = 2**16  # bytes of a growing file that are read
_RECORD = re.compile(r"^\d{4}-\d\d-\d\d [\d:,]+ (?P<level>[A-Z]+) (?P<text>.*)$", re.MULTILINE)


class State(StrEnum):
    """What became of a run."""

    FINISHED = "finished"
    RUNNING = "running"  # a process holds its folder
    UNFINISHED = "unfinished"  # stopped or killed; the same command continues it
    FAILED = "failed"  # the last thing that its log says is an error
    FOREIGN = "foreign"  # a folder that is no run
    DAMAGED = "damaged"  # one whose files cannot be read


@dataclass(frozen=True)
class Listed:
    """A run folder."""

    path: Path
    command: str  # train or mimic
    state: State
    metric: str | None = None
    score: float | None = None  # of the finished run, else after its last epoch
    epoch: int = 0  # done
    epochs: int | None = None  # asked for
    age: float = 0.0  # seconds since something was written
    stage: str | None = None  # of mimic
    note: str | None = None  # what it failed with, or what is wrong with the folder
    settings: dict[str, Any] = field(default_factory=dict)  # all that can change its numbers

    @property
    def name(self) -> str:
        """Of the run."""
        return self.path.name

    def value(self, key: str) -> Any:
        """One of its columns, or one of its settings, whole or by the last word; None where there is none."""
        if key in COLUMNS:
            return getattr(self, key)
        if key in self.settings:
            return self.settings[key]
        ends = [name for name in self.settings if name.rpartition(".")[2] == key]
        return self.settings[ends[0]] if len(ends) == 1 else None


COLUMNS = ("name", "command", "state", "metric", "score", "epoch", "age", "stage", "note")


def listed(root: Path) -> list[Listed]:
    """All run folders below an output_dir, by their paths."""
    return [read_run(path, command) for command in COMMANDS for path in _folders(root / command)]


def _folders(parent: Path) -> Iterator[Path]:
    try:
        with os.scandir(parent) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir())
    except OSError:
        return
    yield from (parent / name for name in names)


def read_run(path: Path, command: str) -> Listed:
    """One folder, whatever it holds."""
    folder = RunFolder(path)
    try:
        if not (path / "identity.json").is_file():
            return Listed(path, command, State.FOREIGN, note="no run of lshfm", age=_age(path))
        return _read(folder, command, folder.identity())
    except (InputError, OSError) as error:
        note = error.strerror if isinstance(error, OSError) else str(error)
        return Listed(path, command, State.DAMAGED, note=note, age=_age(path))


def _read(folder: RunFolder, command: str, settings: dict[str, Any]) -> Listed:
    path, epochs = folder.path, settings.get("epochs")
    stage = re.search(r"_stage([12])(_|$)", path.name) if command == "mimic" else None
    known: dict[str, Any] = {"epochs": epochs, "settings": settings, "stage": stage[1] if stage else None}
    is_running = is_locked(path / ".lock")
    if folder.results.is_file() and not is_running:
        results = Results.read(folder.results)
        history = results.history or [{"epoch": results.epoch}]
        done = history[-1].get("epoch") or results.epoch or 0
        known |= {"metric": results.metric, "score": results.score, "epoch": done, "stage": results.stage}
        return Listed(path, command, State.FINISHED, age=_age(folder.results), **known)
    ended = _epochs(folder.metrics)
    if ended:
        known |= {"epoch": ended[0].epoch}
    if evaluated := next((line for line in ended if line.metric), None):
        known |= {"metric": evaluated.metric, "score": evaluated.score}
    age = _age(folder.metrics, folder.log, path)
    if is_running:
        return Listed(path, command, State.RUNNING, age=age, **known)
    error = _error(folder.log)
    return Listed(path, command, State.FAILED if error else State.UNFINISHED, age=age, note=error, **known)


def _age(*paths: Path) -> float:
    """Seconds since the first of these that is there was written."""
    for path in paths:
        try:
            return max(time.time() - path.stat().st_mtime, 0.0)
        except OSError:
            continue
    return 0.0


def _end(path: Path) -> str:
    """The end of a text file; nothing where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(os.fstat(file.fileno()).st_size - END, 0))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def _epochs(path: Path) -> list[EpochLine]:
    """The lines on epochs at the end of a run's metrics, the last one first."""
    texts = (text for text in reversed(_end(path).splitlines()) if '"score"' in text)
    return [line for line in map(read_line, texts) if isinstance(line, EpochLine)]


def _error(log: Path) -> str | None:
    """The first line of the error that a log ends with; None where it ends with anything else."""
    records = list(_RECORD.finditer(_end(log)))
    return records[-1]["text"] if records and records[-1]["level"] == "ERROR" else None


def differing(runs: Sequence[Listed]) -> dict[Path, dict[str, Any]]:
    """Of each run the settings in which runs of the same command and stage on the same data set differ."""
    groups: dict[tuple[Any, ...], list[Listed]] = {}
    for run in runs:
        groups.setdefault((run.command, run.stage, run.settings.get("dataset")), []).append(run)
    found: dict[Path, dict[str, Any]] = {}
    for members in groups.values():
        known = [run for run in members if run.settings]
        keys = {key for run in known[1:] for key in differing_keys(known[0].settings, run.settings)}
        shown = sorted(key for key in keys if not _is_aside(key))
        found |= {run.path: {key: run.settings[key] for key in shown if key in run.settings} for run in members}
    return found


def _is_aside(key: str) -> bool:
    """Keys whose values say nothing to people, or follow from others."""
    return key.startswith("data.") or key in ("teacher", "schedule.cosine_epochs", "epochs")


def numbers(report: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The single numbers of a report, under dotted keys: not those of each class."""
    found: dict[str, float] = {}
    for name, value in report.items():
        if isinstance(value, Mapping) and name not in ("ap", "history"):
            found |= numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[f"{prefix}{name}"] = value
    return found


def as_entry(run: Listed) -> dict[str, Any]:
    """A run for scripts."""
    columns = {name: getattr(run, name) for name in COLUMNS}
    return {"path": str(run.path), **columns, "epochs": run.epochs, "settings": run.settings}


def shown(value: Any) -> str:
    """A setting's value as it is typed."""
    return value if isinstance(value, str) else json.dumps(value).replace('"', "").replace(", ", ",")
