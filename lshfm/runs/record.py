"""metrics.jsonl, with its table, and results.json: their layout, and the one place that writes and reads them."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Self, get_args, get_origin, get_type_hints

from lshfm.engine.lines import EpochLine, Line, StepLine, Waiting
from lshfm.errors import InputError
from lshfm.files.parse import parse_json
from lshfm.files.write import append_line, write_json, write_text
from lshfm.runs.epochs import EpochTable

if TYPE_CHECKING:  # who reads records, as listings of runs do, need not wait for torch
    from lshfm.engine.state import Evaluation

METRICS_VERSION = 2  # of a line; 1 where none is named, without kind and time
RESULTS_VERSION = 2  # a file that names no version is of version 1
_hints = cache(get_type_hints)  # for listings, which read many files


class Metrics:
    """metrics.jsonl, a JSON object a line, as the journal's sink; and metrics.csv beside it, a row an epoch.

    The table is made from the lines alone and replaced whole: a kill leaves the one before.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._table: EpochTable | None = None  # of what the file holds

    def write(self, line: Line) -> None:
        """Add a line, with the time unless it has one. Raises RunFailed when the disk is full."""
        entry = _step_entry(line) if isinstance(line, StepLine) else _epoch_entry(line)
        table = self._read_table()
        append_line(self.path, json.dumps(entry, allow_nan=False))
        table.add(line)
        if isinstance(line, EpochLine):
            write_text(self.path.with_suffix(".csv"), table.text())

    def _read_table(self) -> EpochTable:
        if self._table is None:
            self._table = EpochTable(read_metrics(self.path) if self.path.exists() else ())
        return self._table

    def forget_after(self, epochs_done: int, steps_done: int) -> None:
        """Drop the lines on steps after these (epochs, and steps of the next one), and text that is no such line.

        Raises InputError for lines of a newer version.
        """
        if self.path.exists():
            kept = [text for text, line in _lines(self.path) if _position(line) <= (epochs_done, steps_done)]
            write_text(self.path, "".join(f"{text}\n" for text in kept))
            self._table = None
            write_text(self.path.with_suffix(".csv"), self._read_table().text())


def read_metrics(path: Path) -> list[Line]:
    """All lines of a metrics.jsonl, without text that is none; InputError for lines of a newer version."""
    return [line for _, line in _lines(path)]


def read_line(text: str) -> Line | None:
    """A line of a metrics.jsonl; None for text that is none. Raises InputError for a line of a newer version."""
    try:
        entry = parse_json(text)
        version = entry.pop("version", 1)
        if version <= METRICS_VERSION:
            return _line(entry, version)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    raise InputError("written by a newer lshfm: upgrade to read it")


def _step_entry(line: StepLine) -> dict[str, Any]:
    speed = {} if line.images_per_second is None else {"images_per_second": line.images_per_second}
    waiting = {} if line.waiting is None else {"waiting": asdict(line.waiting)}
    return _opening("step", line) | {"step": line.step, "lr": line.lr, **line.losses, **speed, **waiting}


def _epoch_entry(line: EpochLine) -> dict[str, Any]:
    measured = {"validation_loss": line.validation_loss, "seconds": line.seconds}
    known = {name: value for name, value in measured.items() if value is not None}
    evaluated = {"metric": line.metric, "score": line.score} if line.metric else {}
    return _opening("epoch", line) | {**evaluated, **known, **line.beside}


def _opening(kind: str, line: Line) -> dict[str, Any]:
    """What all lines have."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"version": METRICS_VERSION, "kind": kind, "time": line.time or now, "epoch": line.epoch}


def _lines(path: Path) -> Iterator[tuple[str, Line]]:
    """The valid lines, each as text and parsed. Raises InputError for lines of a newer version."""
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = read_line(text)
        except InputError as error:
            raise InputError(f"{path} was {error}") from error
        if line:
            yield text, line


def _line(entry: dict[str, Any], version: int) -> Line:
    """Raises KeyError for a kind that is none of ours."""
    kind = ("step" if "step" in entry else "epoch") if version == 1 else entry.pop("kind")
    read: dict[str, Callable[[dict[str, Any]], Line]] = {"step": _step_line, "epoch": _epoch_line}
    return read[kind](entry)


def _step_line(entry: dict[str, Any]) -> StepLine:
    """A line of losses: every entry that is no other field of StepLine is a loss."""
    time = entry.pop("time", None)
    epoch, step, lr = int(entry.pop("epoch")), int(entry.pop("step")), float(entry.pop("lr"))
    speed, waiting = entry.pop("images_per_second", None), entry.pop("waiting", None)
    losses, speed = {name: float(value) for name, value in entry.items()}, None if speed is None else float(speed)
    return StepLine(epoch, step, lr, losses, speed, None if waiting is None else Waiting(**waiting), time)


def _epoch_line(entry: dict[str, Any]) -> EpochLine:
    epoch, metric, score = int(entry.pop("epoch")), str(entry.pop("metric", "")), entry.pop("score", None)
    loss, seconds, time = (entry.pop(name, None) for name in ("validation_loss", "seconds", "time"))
    return EpochLine(epoch, metric, score, entry, loss, seconds, time)


def _position(line: Line) -> tuple[int, int]:
    """Epochs done, and steps of the next one, when the line was written."""
    return (line.epoch - 1, line.step) if isinstance(line, StepLine) else (line.epoch, 0)


@dataclass(frozen=True, kw_only=True)
class Results:
    """results.json, of a finished run or of an evaluation; None for what does not apply or was not recorded."""

    name: str  # of the run
    command: str | None = None  # train, mimic, eval
    command_line: list[str] | None = None  # words as typed
    lshfm: str | None = None  # version of the package
    revision: str | None = None  # of the checkout that it lay in
    stage: str | None = None  # of mimic
    loss: str | None = None  # of mimic
    teacher: dict[str, Any] | None = None  # name, checkpoint, identity
    starting_weights: str | None = None  # what was taken from which file, in words
    stage1: str | None = None  # path of the stage 1 that a student started from
    dataset: str | None = None
    metric: str  # "voc2010 mAP"
    score: float | None = None  # None where it is undefined
    label_loss_counted: dict[str, list[float]] | None = None  # values of its keys that the training labels gave
    label_loss: float | None = None  # of the same evaluation as the score, mean over the images
    label_loss_name: str | None = None  # of eval
    epoch: int | None = None  # that was evaluated
    planned_before: list[dict[str, int]] | None = None  # other numbers of epochs, and until which epoch and step
    split: str | None = None  # of the data set: what was evaluated on
    data: str | None = None  # fingerprint of that split
    best: dict[str, Any] | None = None  # the entry of `history` with the highest score
    best_chosen_on: str | None = None  # data that `history` is of, in words
    history: list[dict[str, Any]] | None = None  # epoch, metric, score, and other numbers
    report: dict[str, Any]  # every metric of the evaluation
    average: dict[str, Any] | None = None  # the mean of the last epochs' weights: how many, metric, score, metrics
    checkpoint: str | None = None  # its path
    training_seconds: float | None = None
    evaluation_seconds: float | None = None
    images_per_second: float | None = None
    peak_memory: dict[str, int | None] | None = None  # as `provenance.peak_memory` tells it
    hardware: dict[str, Any] | None = None

    def write(self, path: Path) -> None:
        """Write the file atomically. Raises ValueError for NaN or an infinity, before anything is written."""
        entry = {name: value for name, value in vars(self).items() if value is not None or name == "score"}
        write_json(path, {"version": RESULTS_VERSION} | entry)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file of this version or an older one. Raises InputError if it is damaged or of a newer version."""
        try:
            entry = dict(parse_json(path.read_text(encoding="utf-8")))
            version = entry.get("version", 1)
            is_newer = version > RESULTS_VERSION
            read = None if is_newer else cls(**_checked(_from_version_1(entry) if version == 1 else entry))
        except (ValueError, TypeError) as error:
            raise InputError(f"{path} is damaged: delete it, and the same command writes it anew") from error
        if read is None:
            raise InputError(f"{path} was written by a newer lshfm ({entry.get('lshfm')}): upgrade to read it")
        return read


def measured(evaluation: "Evaluation") -> dict[str, Any]:
    """What checkpoints say of an evaluation."""
    numbers = {"metric": evaluation.name, "score": evaluation.score, "label_loss": evaluation.loss}
    return numbers | {"metrics": dict(evaluation.report)}


def _from_version_1(entry: dict[str, Any]) -> dict[str, Any]:
    """Version 1 has one entry, seconds: of training with its evaluations, or of the evaluation of eval."""
    measured = "evaluation_seconds" if entry.get("command") == "eval" else "training_seconds"
    return entry | {measured: entry.get("seconds")}


def _checked(entry: dict[str, Any]) -> dict[str, Any]:
    """The fields of Results in a file. Raises TypeError if one is of another type."""
    hints = _hints(Results)
    fields = {name: value for name, value in entry.items() if name in hints}
    wrong = [name for name, value in fields.items() if not _is_of(value, hints[name])]
    if wrong:
        raise TypeError(wrong[0])
    return fields


def _is_of(value: Any, hint: Any) -> bool:
    """Whether a value out of JSON is of a field's type; what lists and dictionaries hold is not looked at."""
    kinds = {get_origin(kind) or kind for kind in (get_args(hint) if isinstance(hint, UnionType) else (hint,))}
    return type(value) in kinds or (type(value) is int and float in kinds)
