"""What a run has left in its folder, read for a report: all that can be read, and what is missing or damaged."""

import re
import shlex
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml

from lshfm.engine.lines import EpochLine, Line
from lshfm.errors import LshfmError, printable
from lshfm.report.facts import FAILED, FINISHED, UNFINISHED, Arrays, Run
from lshfm.runs import told
from lshfm.runs.curves import curves_of, start_at_zero
from lshfm.runs.folder import RunFolder
from lshfm.runs.record import Results, read_metrics

MOST_BYTES = 4 * 2**30  # of arrays in a file, once unpacked
BEFORE = "before.npz"
_LOG_LINE = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ([A-Z]+) (.*)$")

T = TypeVar("T")


def read_run(path: Path, note: str = "") -> Run:
    """A run's facts from its folder; whatever cannot be read is left empty and named in `missing`.

    note: what else is known to be missing.
    """
    reader = _Reader(path)
    if note:
        reader.missing.append(note)
    return reader.run()


def is_run(path: Path) -> bool:
    """Whether a folder holds anything of a run."""
    return any((path / name).is_file() for name in ("identity.json", "results.json", "metrics.jsonl"))


class _Reader:
    """Reads the files of one folder, and gathers what is wrong with them."""

    def __init__(self, path: Path) -> None:
        self.path, self.folder = path, RunFolder(path)
        self.missing: list[str] = []

    def run(self) -> Run:
        """What is kept of the run; what cannot be read is named in `missing`."""
        path = self.path
        results = self._read("results.json", Results.read)
        settings = self._read("config.yaml", _yaml) or {}
        identity = self._read("identity.json", lambda _: self.folder.identity()) or {}
        lines = self._read("metrics.jsonl", read_metrics) or []
        if not (results or identity or lines):
            what = "not a run of lshfm" if path.is_dir() else "no such folder"
            return Run(name=path.name, folder=str(path), missing=(what, *self.missing))
        if results and results.command not in (None, "train", "mimic", "eval"):
            what = f"made by lshfm {printable(str(results.command))}, which reports do not show"
            return Run(name=path.name, folder=str(path), missing=(what, *self.missing))
        state, ending = (FINISHED, None) if results else self._ended()
        arrays, classes = self._arrays("predictions.npz")
        before, _ = self._arrays(BEFORE)
        self._name_absences(results, settings, lines, arrays, state)
        command = (results and results.command) or told.command_of(settings, path)
        curves, losses, beside = curves_of(lines)
        start_at_zero(curves, before)
        ended = [line for line in lines if isinstance(line, EpochLine)]
        last = next((line for line in reversed(ended) if line.metric), None)
        return Run(
            name=path.name, folder=str(path), command=command, stage=told.stage_of(results, settings),
            state=state, ending=ending, missing=tuple(self.missing),
            network=told.network_of(settings, results), loss=told.loss_of(settings, results),
            teacher=told.teacher_of(results, settings), teacher_network=told.at(settings, "teacher", "name"),
            dataset=str((results and results.dataset) or told.at(settings, "dataset", "name") or ""),
            split=(results and results.split) or told.at(settings, "dataset", "eval_split"),
            seed=told.number(settings.get("seed", identity.get("seed"))),
            metric=results.metric if results else last.metric if last else "",
            score=results.score if results else last.score if last else None,
            averaged=told.averaged_score(results),
            epoch=(results and results.epoch) or (ended[-1].epoch if ended else None),
            epochs=told.number(settings.get("epochs")),
            published=told.published_score(settings), report=told.report_of(results, settings),
            settings=identity, curves=curves, losses=losses, beside=beside, classes=classes,
            arrays=arrays, before=before,
            checkpoint=Path(results.checkpoint).stem if results and results.checkpoint else None,
            cost=told.cost_of(results, lines), environment=told.environment_of(results),
            command_line=tuple(map(str, results.command_line or ())) if results else self._typed(),
        )  # fmt: skip

    def _read(self, name: str, read: Callable[[Path], T]) -> T | None:
        """What a file holds; None where it is absent or, which is noted, damaged."""
        path = self.path / name
        if not path.is_file():
            return None
        try:
            return read(path)
        except (LshfmError, OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
            is_own = isinstance(error, LshfmError)
            self.missing.append(str(error) if is_own else f"{name} is damaged")
            return None

    def _arrays(self, name: str) -> tuple[Arrays, tuple[str, ...]]:
        arrays = self._read(name, _npz) or {}
        classes = tuple(map(str, arrays.pop("classes", np.zeros(0, "U1")).tolist()))
        lengths = {len(array) for array in arrays.values()}
        if len(lengths) > 1:
            self.missing.append(f"{name} is damaged: its arrays are not of the same images")
            return {}, ()
        return arrays, classes

    def _name_absences(
        self, results: Results | None, settings: Mapping[str, Any], lines: Sequence[Line], arrays: Arrays, state: str
    ) -> None:
        is_evaluation = results is not None and results.command == "eval"
        absences = {
            "config.yaml": not settings and not is_evaluation, "metrics.jsonl": not lines and not is_evaluation,
            "predictions.npz": not arrays and state == FINISHED,
        }  # fmt: skip
        for name, is_absent in absences.items():
            if is_absent and not any(text.startswith(name) for text in self.missing):
                self.missing.append(f"no {name}")

    def _ended(self) -> tuple[str, str | None]:
        """Whether a run without results failed, by the last line of its log, and what it said."""
        found = [match for line in self._log() if (match := _LOG_LINE.match(line))]
        if found and found[-1][1] == "ERROR":
            return FAILED, printable(found[-1][2])
        return UNFINISHED, None

    def _log(self) -> list[str]:
        try:
            return self.folder.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return []

    def _typed(self) -> tuple[str, ...]:
        """The command line as the log's first line has it."""
        for line in self._log():
            match = _LOG_LINE.match(line)
            if match and match[2].startswith("$ "):
                return _words(match[2].removeprefix("$ "))
        return ()


def _words(line: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(line))
    except ValueError:  # of a line that was cut
        return (line,)


def _yaml(path: Path) -> dict[str, Any]:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(path)
    return content


def _npz(path: Path) -> Arrays:
    """The arrays of a file; none of them runs code. Raises ValueError for other files and for too many bytes."""
    try:
        with zipfile.ZipFile(path) as held:
            if sum(entry.file_size for entry in held.infolist()) > MOST_BYTES:
                raise ValueError(path)
        with np.load(path, allow_pickle=False) as loaded:
            arrays = {name: loaded[name] for name in loaded.files}
    except (zipfile.BadZipFile, EOFError, MemoryError) as error:
        raise ValueError(path) from error
    if any(array.ndim == 0 for array in arrays.values()):
        raise ValueError(path)
    return arrays


def saved_settings(path: Path) -> dict[str, Any]:
    """A run's config.yaml, nested as it stands there; {} where it cannot be read."""
    try:
        return _yaml(path / "config.yaml")
    except (OSError, ValueError, yaml.YAMLError):
        return {}
