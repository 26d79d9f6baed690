"""What predict leaves in its folder, batch by batch, so that a killed command goes on where it was."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lshfm.errors import escaped
from lshfm.files.write import append_bytes, append_line, write_bytes, write_text
from lshfm.shipping.predictor import Prediction

FORMULA = ("=", "+", "-", "@")  # what spreadsheets take for the beginning of one


class PredictionFiles:
    """predictions.jsonl or .csv, features.npy with ids.npy; until all is done, what is there of them under other names.

    A batch is one write of lines, after its features: what a kill leaves of a batch is cut off.
    """

    def __init__(self, folder: Path, classes: Sequence[str], *, batch_size: int, has_features: bool) -> None:
        self.folder = folder
        self.classes = classes
        self._batch_size = batch_size
        self._lines = folder / "unfinished.jsonl"
        self._features = folder / "unfinished.features" if has_features else None

    def resume(self, total: int) -> int:
        """The number of pictures that are done, of `total`; what is there of a batch that is not goes."""
        if not self._lines.exists():
            return 0
        kept = [line for line in self._lines.read_text("utf-8").splitlines() if _is_whole(line)]
        if len(kept) < total:
            kept = kept[: len(kept) // self._batch_size * self._batch_size]
        rows = sum("error" not in json.loads(line) for line in kept)
        if self._features is not None and rows:
            data = self._features.read_bytes() if self._features.exists() else b""
            width = json.loads(next(line for line in kept if "error" not in json.loads(line)))["width"]
            if len(data) < rows * width * 4:  # they were written first, so a disk has lost some
                kept, rows = [], 0
            write_bytes(self._features, io.BytesIO(data[: rows * width * 4]))
        elif self._features is not None:
            self._features.unlink(missing_ok=True)
        write_text(self._lines, "".join(f"{line}\n" for line in kept))
        return len(kept)

    def add(self, predictions: Sequence[Prediction], features: NDArray[np.float32] | None) -> None:
        """Keep a batch. Raises RunFailed on a full disk."""
        width = {}
        if self._features is not None and features is not None:
            append_bytes(self._features, np.ascontiguousarray(features, "<f4").tobytes())
            width = {"width": features.shape[1]}
        append_line(self._lines, "\n".join(json.dumps(_entry(each) | width, allow_nan=False) for each in predictions))

    def entries(self) -> list[dict[str, Any]]:
        """The lines so far, in the order of the pictures."""
        return [json.loads(line) for line in self._lines.read_text("utf-8").splitlines()]

    def finish(self, format_: str) -> Path:
        """Write the files under their names, and return that of the predictions."""
        entries = self.entries()
        if self._features is not None:
            self._write_features(entries)
        for entry in entries:
            entry.pop("width", None)
        path = self.folder / f"predictions.{format_}"
        if format_ == "csv":
            write_text(path, _table(entries, self.classes))
        else:
            write_text(path, "".join(json.dumps(entry) + "\n" for entry in entries))
        return path

    def tidy(self) -> None:
        """Delete what was only needed until the end."""
        for path in (self._lines, self._features):
            if path is not None:
                path.unlink(missing_ok=True)

    def _write_features(self, entries: Sequence[dict[str, Any]]) -> None:
        assert self._features is not None
        good = [entry for entry in entries if "error" not in entry]
        width = good[0]["width"] if good else 0
        data = self._features.read_bytes() if good else b""
        _save(self.folder / "features.npy", np.frombuffer(data, "<f4").reshape(len(good), width))
        _save(self.folder / "ids.npy", np.array([entry["path"] for entry in good], dtype=np.str_))


def _save(path: Path, array: NDArray[Any]) -> None:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_bytes(path, buffer)


def _entry(prediction: Prediction) -> dict[str, Any]:
    """A line of predictions.jsonl: nine digits give every fp32 number back."""
    if prediction.error is not None:
        return {"path": prediction.source, "error": prediction.error}
    labels = {name: round(value, 6) for name, value in prediction.labels.items()}
    kind, values = ("logits", prediction.logits) if prediction.logits is not None else ("", prediction.probabilities)
    return {"path": prediction.source, "labels": labels, kind or "probabilities": _short(values)}


def _short(values: NDArray[Any] | None) -> list[float]:
    return [] if values is None else [float(f"{value:.9g}") for value in values.tolist()]


def _is_whole(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _table(entries: Sequence[dict[str, Any]], classes: Sequence[str]) -> str:
    """A row a picture: its labels, likeliest first, then a column of outputs a class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    kind = next((name for entry in entries for name in ("logits", "probabilities") if name in entry), "logits")
    writer.writerow(["path", "labels", *(f"{kind}: {_cell(name)}" for name in classes), "error"])
    writer.writerows(_row(entry, kind, len(classes)) for entry in entries)
    return text.getvalue()


def _row(entry: dict[str, Any], kind: str, num: int) -> Iterator[Any]:
    path = entry["path"]
    yield _cell(f"./{path}" if path.startswith(FORMULA) else path)
    yield _cell(";".join(f"{name} {value:.4f}" for name, value in entry.get("labels", {}).items()))
    yield from entry.get(kind, [""] * num)
    yield _cell(entry.get("error", ""))


def _cell(text: str) -> str:
    """A text that a spreadsheet takes as one: what it would compute is put behind an apostrophe."""
    shown = escaped(text)
    return f"'{shown}" if shown.startswith(FORMULA) else shown
