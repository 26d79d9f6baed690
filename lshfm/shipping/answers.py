"""How a network's answers are shown and written: a line on the console, entries of files, drawn over a picture."""

import csv
import io
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lshfm.errors import escaped, printable
from lshfm.shipping.drawing import LARGEST, annotated

FORMULA = ("=", "+", "-", "@")  # what spreadsheets take for the beginning of one
Entry = dict[str, Any]  # of a picture, plain values: its `path`, and `error` or what was found


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a network says of one picture."""

    source: str | None  # the file's path; None for a picture that came without one
    labels: dict[str, float] = field(default_factory=dict)  # those predicted, with probabilities, likeliest first
    probabilities: NDArray[np.float64] | None = None  # (C,), of every class
    logits: NDArray[np.float32] | None = None  # (C,); None of a file that gives probabilities alone
    error: str | None = None  # why the picture could not be read; nothing else is there then


class Answers(ABC):
    """Of records of one kind, each with `source` and `error`."""

    @abstractmethod
    def words(self, record: Any) -> str:
        """A line for the console on a picture that could be read."""

    def entry(self, record: Any) -> Entry:
        """All that is kept of a record until the end."""
        if record.error is not None:
            return {"path": record.source, "error": record.error}
        return {"path": record.source, **self.found(record)}

    @abstractmethod
    def found(self, record: Any) -> Entry:
        """What an entry holds of a picture that could be read."""

    @abstractmethod
    def drawn(self, picture: Image.Image, entry: Entry, most: int = LARGEST) -> Image.Image:
        """A copy of the picture with what was found in it. most: pixels of its longer side."""

    @abstractmethod
    def table(self, entries: Sequence[Entry]) -> str:
        """The shown entries as CSV."""

    def shown(self, entry: Entry) -> Entry:
        """What of an entry predictions.jsonl holds."""
        return entry

    def check(self, paths: Sequence[str]) -> None:  # noqa: ARG002
        """Raise InputError for pictures whose names the asked files cannot hold."""
        return

    def write_beside(self, folder: Path, entries: Sequence[Entry]) -> None:  # noqa: ARG002
        """Write files that only records of this kind have. Raises RunFailed on a full disk."""
        return


class LabelAnswers(Answers):
    """Labels with their probabilities, and the outputs of all classes."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = classes

    def found(self, record: Prediction) -> Entry:
        """Labels, and every output: nine digits give every fp32 number back."""
        labels = {name: round(value, 6) for name, value in record.labels.items()}
        kind, values = ("logits", record.logits) if record.logits is not None else ("", record.probabilities)
        return {"labels": labels, kind or "probabilities": short(values)}

    def words(self, record: Prediction) -> str:
        """Each label with its probability."""
        words = [f"{printable(name)} {probability:.3f}" for name, probability in record.labels.items()]
        return ", ".join(words) or "no label passes its threshold"

    def drawn(self, picture: Image.Image, entry: Entry, most: int = LARGEST) -> Image.Image:
        """The labels in the picture's upper left corner."""
        copy = picture.copy()
        copy.thumbnail((most, most))
        return annotated(copy, _lines(entry["labels"]))

    def table(self, entries: Sequence[Entry]) -> str:
        """A row a picture: its labels, likeliest first, then a column of outputs a class."""
        kind = next((name for entry in entries for name in ("logits", "probabilities") if name in entry), "logits")
        head = ["path", "labels", *(f"{kind}: {cell(name)}" for name in self.classes), "error"]
        return comma_separated([head, *(_row(entry, kind, len(self.classes)) for entry in entries)])


def short(values: NDArray[Any] | None) -> list[float]:
    """Numbers with the nine digits that give every fp32 one back."""
    return [] if values is None else [float(f"{value:.9g}") for value in values.tolist()]


def _lines(labels: Mapping[str, float]) -> list[str]:
    return [f"{printable(name)[:40]} {probability:.2f}" for name, probability in labels.items()]


def _row(entry: Entry, kind: str, num: int) -> Iterator[Any]:
    yield path_cell(entry["path"])
    yield cell(";".join(f"{name} {value:.4f}" for name, value in entry.get("labels", {}).items()))
    yield from entry.get(kind, [""] * num)
    yield cell(entry.get("error", ""))


def comma_separated(rows: Sequence[Any]) -> str:
    """Rows as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def path_cell(path: str) -> str:
    """A path for a spreadsheet: one that it would compute gets ./ before it."""
    return cell(f"./{path}" if path.startswith(FORMULA) else path)


def cell(text: str) -> str:
    """A text that a spreadsheet takes as one: what it would compute is put behind an apostrophe."""
    shown = escaped(text)
    return f"'{shown}" if shown.startswith(FORMULA) else shown
