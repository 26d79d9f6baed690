"""Users' own images: a CSV or JSON-lines file a split, with the path and the labels of each image."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lshfm.datasets.checks import (
    contents,
    find_root,
    first_five,
    read_text,
    require_class_name,
    require_path,
    require_plain,
    require_text,
    require_unique,
)
from lshfm.datasets.images import FileImages
from lshfm.datasets.split import Labels, Split, settle_unlabelled
from lshfm.errors import InputError, nearest, parameter, printable

_REQUIRED = ("path", "labels")
_OPTIONAL = ("difficult", "id")


@dataclass(frozen=True)
class Entry:
    """One image of a manifest; `at` is where it stands, for messages."""

    at: str
    path: str
    labels: tuple[str, ...]
    difficult: tuple[str, ...]
    id: str


class Manifest:
    """Splits are `<root>/<split>.csv` or `.jsonl`; paths in them are relative to `root`, or absolute.

    Classes are, in this order of precedence: `classes`; the lines of `<root>/classes.txt`; the sorted labels
    of the split `classes_from`.
    """

    def __init__(
        self,
        root: str | Path,
        classes: Sequence[str] | None = None,
        classes_from: str = "train",
        unlabelled: str = "error",
    ) -> None:
        if isinstance(classes, str) or not isinstance(classes, Sequence | None):
            own = parameter("classes")
            raise InputError(f"{own}={classes} must be a list: {own}=[{classes}]")
        self.root = find_root(root)
        self.classes = classes
        self.classes_from = str(classes_from)  # a split called 2007 is a number to YAML
        self.unlabelled = unlabelled

    def split(self, name: str) -> Split:
        """The manifest's images in its order; `name` may have the file's ending. Raises InputError."""
        entries = self._entries(name)
        classes = self.known_classes()
        labels = _labels(entries, classes)
        images = FileImages(tuple(self.root / entry.path for entry in entries))
        split = Split(name, classes, tuple(entry.id for entry in entries), labels, images)
        return settle_unlabelled(split, self.unlabelled)

    def known_classes(self) -> tuple[str, ...]:
        """The classes, wherever they come from. Raises InputError."""
        file = self.root / "classes.txt"
        if self.classes is not None:
            origin, classes = parameter("classes"), tuple(self.classes)
        elif file.exists():
            origin, classes = str(file), tuple(filter(None, map(str.strip, read_text(file).splitlines())))
        else:
            origin = f"split '{self.classes_from}'"
            entries = self._entries(self.classes_from)
            classes = tuple(sorted({name for entry in entries for name in entry.labels + entry.difficult}))
        if not classes:
            raise InputError(f"{origin} names no class")
        for name in classes:
            require_text(f"{origin}: class", name)
            require_class_name(f"{origin}: class", name)
        require_unique(f"{origin}: class", classes)
        return classes

    def _entries(self, name: str) -> list[Entry]:
        path = self.find(name)
        entries = list(read(path))
        if not entries:
            raise InputError(f"{path} lists no image")
        require_unique(f"{path}: image id", (entry.id for entry in entries))
        return entries

    def find(self, name: str) -> Path:
        """The split's file. Raises InputError."""
        require_plain("Manifest", name)
        names = [name] if name.endswith((".csv", ".jsonl")) else [f"{name}.csv", f"{name}.jsonl"]
        found = [self.root / name for name in names if (self.root / name).is_file()]
        if not found:
            raise InputError(
                f"No split '{name}' at {parameter('root')}={self.root}: expected {' or '.join(names)}.\n"
                f"{contents(self.root)}."
            )
        if len(found) > 1:
            raise InputError(f"{self.root} has {' and '.join(names)}: name the split with its ending")
        return found[0]


def read(path: Path) -> Iterator[Entry]:
    """A manifest's entries, one after the other. Raises InputError at the first that cannot be read."""
    return (_read_csv if path.suffix == ".csv" else _read_json_lines)(path)


def _labels(entries: list[Entry], classes: tuple[str, ...]) -> Labels:
    """int8 (n, C): a class both present and difficult is present."""
    column = {name: i for i, name in enumerate(classes)}
    labels = np.full((len(entries), len(classes)), -1, np.int8)
    for row, entry in zip(labels, entries, strict=True):
        for name in entry.labels + entry.difficult:
            if name not in column:
                raise InputError(f"{entry.at}: unknown label {name!r}{nearest(name, classes)}")
        row[[column[name] for name in entry.difficult]] = 0
        row[[column[name] for name in entry.labels]] = 1
    return labels


def _read_csv(path: Path) -> Iterator[Entry]:
    """Columns path, labels and perhaps difficult and id; several labels are separated by `;`."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        header = [column.strip() for column in next(reader, [])]
        _check_fields(f"{path}, line 1", header)
        for row in reader:
            at = f"{path}, line {reader.line_num}"
            if not row:
                continue
            if len(row) != len(header):
                raise InputError(
                    f"{at}: {len(row)} fields, but the header has {len(header)} ({','.join(header)}); "
                    'several labels are separated by ";", a field with a comma is put in quotes'
                )
            fields = dict(zip(header, row, strict=True))
            names = {key: _separate(fields.get(key, "")) for key in ("labels", "difficult")}
            yield _entry(at, fields["path"], fields.get("id", ""), **names)
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: broken CSV: {error}") from error


def _separate(names: str) -> tuple[str, ...]:
    return tuple(filter(None, map(str.strip, names.split(";"))))


def _read_json_lines(path: Path) -> Iterator[Entry]:
    """Objects with the strings path and perhaps id, and the lists of strings labels and perhaps difficult."""
    # Not splitlines(): JSON strings may hold the other characters it takes for line ends.
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            yield _parse_line(f"{path}, line {number}", line)


def _parse_line(at: str, line: str) -> Entry:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{at}: broken JSON: {error}") from error
    if not isinstance(fields, dict):
        raise InputError(f"{at}: expected an object with {', '.join(_REQUIRED + _OPTIONAL)}")
    _check_fields(at, list(fields))
    names = {key: _names(at, key, fields) for key in ("labels", "difficult")}
    for key in ("path", "id"):
        if not isinstance(fields.get(key, ""), str):
            raise InputError(f"{at}: '{key}' must be text")
    return _entry(at, fields["path"], fields.get("id", ""), **names)


def _names(at: str, key: str, fields: Mapping[str, object]) -> tuple[str, ...]:
    names = fields.get(key, [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{at}: '{key}' must be a list of texts")
    return tuple(names)


def _check_fields(at: str, fields: list[str]) -> None:
    for field in _REQUIRED:
        if field not in fields:
            raise InputError(f"{at}: no '{field}' among {first_five(fields) or 'no fields'}")
    for field in fields:
        if field not in _REQUIRED + _OPTIONAL:
            raise InputError(
                f"{at}: unknown field '{printable(field)}'{nearest(printable(field), _REQUIRED + _OPTIONAL)}"
            )
    require_unique(f"{at}: field", fields)


def _entry(at: str, path: str, id: str, labels: tuple[str, ...], difficult: tuple[str, ...]) -> Entry:
    require_path(f"{at}: path", path)
    require_path(f"{at}: id", id)
    for name in labels + difficult:
        require_class_name(f"{at}: label", name)
    if not path.strip():
        raise InputError(f"{at}: the path is empty")
    if ".." in Path(path).parts and not Path(path).is_absolute():
        raise InputError(f"{at}: {path!r} leads out of the root; write an absolute path if that is meant")
    return Entry(at, path, labels, difficult, id or path)
