"""Rows of a manifest, from CSV, TSV or JSON lines: an image's path with its labels, under any of their usual names."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from lshfm.datasets.annotations import BROKEN_ANNOTATION, Box, Fault, Report
from lshfm.datasets.checks import read_text, require_class_name, require_path
from lshfm.datasets.reader import clause
from lshfm.datasets.sheet_columns import IN_ORDER, NAMES, box_of, by_flag, require_roles, roles_of
from lshfm.errors import InputError, printable
from lshfm.files.parse import parse_json

ENDINGS = (".csv", ".tsv", ".jsonl")
_MARKS = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False, "": False}
SEPARATOR = ";"


class Row(NamedTuple):
    """A row of a manifest. at: where it stands, for messages."""

    at: str
    path: str
    labels: tuple[str, ...]
    difficult: tuple[str, ...]
    id: str  # "" where the row has none
    box: Box | None = None  # of the row's one object


@dataclass
class Sheet:
    """A manifest's rows. classes: of one-hot columns, else none. is_whole: whether every row could be read.

    label_field: what the field with the labels is called; "" where there is none.
    """

    rows: list[Row] = field(default_factory=list)
    classes: tuple[str, ...] = ()
    is_whole: bool = True
    label_field: str = ""

    def labels(self) -> Iterator[str]:
        """Every label of every row."""
        return (label for row in self.rows for label in (*row.labels, *row.difficult))


class _Unreadable(InputError):
    """A file that cannot be read on from a place."""

    def __init__(self, where: str, what: str) -> None:
        super().__init__(f"{where}: {what}")
        self.fault = Fault(BROKEN_ANNOTATION, where, what)


def read_sheet(path: Path, separator: str | None, report: Report, text: str | None = None) -> Sheet:
    """All rows that can be read; `report` is told of the others. text: the file's, or its beginning, if it is read.

    separator: of labels in a field. Without it SEPARATOR, and labels that are listed one by one are taken as they are.
    """
    sheet = Sheet()
    for row in _rows(path, separator, sheet, text):
        if isinstance(row, Fault):
            sheet.is_whole = False
            report(row)
        else:
            sheet.rows.append(row)
    return sheet


def separate(names: str, separator: str) -> tuple[str, ...]:
    """The labels in a field; " " stands for any run of blanks."""
    parts = names.split() if separator == " " else names.split(separator)
    return tuple(filter(None, map(str.strip, parts)))


def _rows(path: Path, separator: str | None, sheet: Sheet, text: str | None) -> Iterator[Row | Fault]:
    read = _json_lines if path.suffix == ".jsonl" else _table
    try:
        for at, row in read(path, read_text(path) if text is None else text, separator, sheet):
            yield _row_or_fault(at, row)
    except _Unreadable as error:
        yield error.fault
    except InputError as error:
        yield Fault(BROKEN_ANNOTATION, str(path), clause(error, path))


def _row_or_fault(at: str, row: Callable[[], Row]) -> Row | Fault:
    try:
        return row()
    except InputError as error:
        return Fault(BROKEN_ANNOTATION, at, str(error))


Rows = Iterator[tuple[str, Callable[[], Row]]]  # where each stands, and what makes it or raises InputError


def _table(path: Path, text: str, separator: str | None, sheet: Sheet) -> Rows:
    """Rows of CSV or TSV under a header."""
    first_line = text.split("\n", 1)[0]
    is_tabbed = path.suffix == ".tsv" or ("\t" in first_line and "," not in first_line)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if is_tabbed else ",", strict=True)
    columns = None
    try:
        header = [column.strip() for column in next(reader, [])]
        for cells in filter(None, reader):
            at = f"{path}, line {reader.line_num}"
            columns = columns or _Columns(f"{path}, line 1", header, cells)
            sheet.classes, sheet.label_field = columns.classes, columns.roles.get("labels", "")
            yield at, lambda at=at, cells=cells, columns=columns: columns.row(at, cells, separator)  # type: ignore[misc]
    except csv.Error as error:
        raise _Unreadable(f"{path}, line {reader.line_num}", f"broken CSV: {error}") from error
    if columns is None:
        _Columns(f"{path}, line 1", header, [])


class _Columns:
    """What the columns of a table mean. Raises _Unreadable for a header that does not say it.

    Where none holds labels, all but path, id and difficult are classes, if the first row has 0 or 1 under them.
    """

    def __init__(self, at: str, header: list[str], first: Sequence[str]) -> None:
        self.header = header
        try:
            self.roles = roles_of(header)
            others = [name for name in header if name not in self.roles.values()]
            marks = [cell.strip().lower() for name, cell in zip(header, first, strict=False) if name in others]
            is_one_hot = "labels" not in self.roles and any(marks) and all(mark in _MARKS for mark in marks)
            self.classes = tuple(others) if is_one_hot else ()
            for name in self.classes:
                require_class_name("class", name)
            require_roles(self.roles, header, () if is_one_hot else others, is_one_hot=is_one_hot)
        except InputError as error:
            raise _Unreadable(at, str(error)) from error

    def row(self, at: str, cells: list[str], separator: str | None) -> Row:
        """The row of these cells. Raises InputError."""
        if len(cells) != len(self.header):
            raise InputError(
                f"{len(cells)} fields, but the header has {len(self.header)} ({','.join(self.header)}); "
                'several labels are separated by ";", a field with a comma is put in quotes'
            )
        fields = dict(zip(self.header, cells, strict=True))
        path, id, labels, difficult = (fields.get(self.roles.get(role, ""), "") for role in IN_ORDER)
        shown = separate(labels, separator or SEPARATOR) if "labels" in self.roles else self._marked(fields)
        return _row(at, path.strip(), id, shown, separate(difficult, separator or SEPARATOR), fields, self.roles)

    def _marked(self, fields: Mapping[str, str]) -> tuple[str, ...]:
        for name in self.classes:
            if fields[name].strip().lower() not in _MARKS:
                raise InputError(f"column '{printable(name)}' has {fields[name]!r}, expected 0 or 1")
        return tuple(name for name in self.classes if _MARKS[fields[name].strip().lower()])


def _json_lines(path: Path, text: str, separator: str | None, sheet: Sheet) -> Rows:
    """Objects with a path, a list or text of labels, and perhaps difficult ones and an id."""
    # Not splitlines(): JSON strings may hold the other characters it takes for line ends.
    for number, line in enumerate(text.split("\n"), start=1):
        at = f"{path}, line {number}"
        if line.strip():
            yield at, lambda at=at, line=line: _parsed(at, line, separator, sheet)  # type: ignore[misc]


def _parsed(at: str, line: str, separator: str | None, sheet: Sheet) -> Row:
    try:
        fields = parse_json(line)
    except ValueError as error:
        raise InputError(f"broken JSON: {error}") from error
    if not isinstance(fields, dict):
        raise InputError(f"expected an object with {', '.join(NAMES)}")
    roles = roles_of(fields)
    require_roles(roles, list(fields), [name for name in fields if name not in roles.values()])
    sheet.label_field = roles["labels"]
    texts = {role: fields.get(roles.get(role), "") for role in ("path", "id")}
    for role, value in texts.items():
        if not isinstance(value, str):
            raise InputError(f"'{roles[role]}' must be text")
    flag = roles.get("difficult", "")
    if "left" in roles and isinstance(fields.get(flag), int):
        fields[flag] = str(fields[flag])
    labels, difficult = (_names(fields, roles.get(role), separator) for role in ("labels", "difficult"))
    return _row(at, texts["path"], texts["id"], labels, difficult, fields, roles)


def _names(fields: Mapping[str, object], key: str | None, separator: str | None) -> tuple[str, ...]:
    names = fields[key] if key else []
    if isinstance(names, str):
        return separate(names, separator or SEPARATOR)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"'{key}' must be a list of texts, or a text")
    return tuple(part for name in names for part in separate(name, separator)) if separator else tuple(names)


def _row(
    at: str, path: str, id: str, labels: tuple[str, ...], difficult: tuple[str, ...], fields: Mapping[str, object],
    roles: Mapping[str, str],
) -> Row:  # fmt: skip
    require_path("path", path)
    require_path("id", id)
    labels, difficult = by_flag(labels, difficult, fields, roles)
    for name in labels + difficult:
        require_class_name("label", name)
    if not path.strip():
        raise InputError("the path is empty")
    if ".." in Path(path).parts and not Path(path).is_absolute():
        raise InputError(f"{path!r} leads out of the root; write an absolute path if that is meant")
    return Row(at, path, labels, difficult, id, box_of(fields, roles, len(labels) + len(difficult)))
