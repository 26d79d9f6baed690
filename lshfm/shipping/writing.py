"""What predict leaves in its folder, batch by batch, so that a killed command goes on where it was."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lshfm.files.parse import parse_json
from lshfm.files.write import append_bytes, append_line, write_bytes, write_text
from lshfm.shipping.answers import Answers


class PredictionFiles:
    """predictions.jsonl or .csv, features.npy with ids.npy; until all is done, what is there of them under other names.

    A batch is one write of lines, after its features: what a kill leaves of a batch is cut off.
    """

    def __init__(self, folder: Path, answers: Answers, *, batch_size: int, has_features: bool) -> None:
        self.folder = folder
        self.answers = answers
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
        rows = sum("error" not in parse_json(line) for line in kept)
        if self._features is not None and rows:
            data = self._features.read_bytes() if self._features.exists() else b""
            width = parse_json(next(line for line in kept if "error" not in parse_json(line)))["width"]
            if len(data) < rows * width * 4:  # they were written first, so a disk has lost some
                kept, rows = [], 0
            write_bytes(self._features, io.BytesIO(data[: rows * width * 4]))
        elif self._features is not None:
            self._features.unlink(missing_ok=True)
        write_text(self._lines, "".join(f"{line}\n" for line in kept))
        return len(kept)

    def add(self, records: Sequence[Any], features: NDArray[np.float32] | None) -> None:
        """Keep a batch. Raises RunFailed on a full disk."""
        width = {}
        if self._features is not None and features is not None:
            append_bytes(self._features, np.ascontiguousarray(features, "<f4").tobytes())
            width = {"width": features.shape[1]}
        entries = [self.answers.entry(each) | width for each in records]
        append_line(self._lines, "\n".join(json.dumps(each, allow_nan=False) for each in entries))

    def entries(self) -> list[dict[str, Any]]:
        """The lines so far, in the order of the pictures."""
        return [parse_json(line) for line in self._lines.read_text("utf-8").splitlines()]

    def finish(self, format_: str) -> Path:
        """Write the files under their names, and return that of the predictions."""
        entries = self.entries()
        if self._features is not None:
            self._write_features(entries)
        for entry in entries:
            entry.pop("width", None)
        self.answers.write_beside(self.folder, entries)
        shown = [self.answers.shown(entry) for entry in entries]
        path = self.folder / f"predictions.{format_}"
        if format_ == "csv":
            write_text(path, self.answers.table(shown))
        else:
            write_text(path, "".join(json.dumps(entry) + "\n" for entry in shown))
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


def _is_whole(line: str) -> bool:
    try:
        return isinstance(parse_json(line), dict)
    except ValueError:
        return False
