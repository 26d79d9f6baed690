"""Users' own images: a CSV, TSV or JSON-lines file a split, with the path and the labels of each image."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from lshfm.datasets.annotations import NO_CLASS, ROWS, SEPARATOR, Annotations, Fault, Grade, Object, Picture, Report
from lshfm.datasets.checks import find_root, read_text, require_choice, require_plain, require_text
from lshfm.datasets.reader import Reader, class_list, clause, own_classes
from lshfm.datasets.sheet import ENDINGS, Row, Sheet, read_sheet, separate
from lshfm.errors import InputError, parameter

SEPARATORS = {"comma": ",", "semicolon": ";", "pipe": "|", "slash": "/", "plus": "+", "tab": "\t", "space": " "}


class Manifest(Reader):
    """Splits are `<root>/<split>.csv`, `.tsv` or `.jsonl`; paths in them are relative to `root`, or absolute.

    Classes are, in this order of precedence: `classes`; the lines of `<root>/classes.txt`; the sorted labels, or the
    one-hot columns, of the split `classes_from`. Several rows of one path are one image. `label_separator`: what stands
    between labels in a field, as it is or by its name in SEPARATORS.
    """

    def __init__(
        self,
        root: str | Path,
        classes: Sequence[str] | None = None,
        classes_from: str = "train",
        unlabelled: str = "error",
        label_separator: str | None = None,
        exif: bool = True,
    ) -> None:
        require_choice(parameter("unlabelled"), unlabelled, ("error", "negative"))
        self.root = find_root(root)
        self.classes = own_classes(classes)
        self.classes_from = str(classes_from)  # a split called 2007 is a number to YAML
        self.unlabelled = unlabelled
        self.separator = _separator(label_separator)
        self.exif = exif

    def read(self, name: str, report: Report, classes: Sequence[str] | None = None) -> Annotations:
        """The images in the file's order; `name` may have the file's ending."""
        path = self.find(name)
        sheet = read_sheet(path, self.separator, report)
        own = self._own(report)
        known = own or (tuple(classes) if classes is not None else self._classes_of(path, sheet, report))
        pictures = tuple(_pictures(self.root, sheet.rows))
        for fault in (*_several_rows(path, sheet, len(pictures)), *self._joint(path, sheet, own, known)):
            report(fault)
        return Annotations(str(path), known, pictures, sheet.is_whole)

    def names(self) -> list[str]:
        """The manifests' names without endings."""
        paths = self.root.iterdir() if self.root.is_dir() else ()
        return sorted({path.stem for path in paths if path.suffix in ENDINGS})

    def find(self, name: str) -> Path:
        """The split's file. Raises InputError."""
        require_plain("Manifest", name)
        names = [name] if name.endswith(ENDINGS) else [f"{name}{ending}" for ending in ENDINGS]
        found = [self.root / name for name in names if (self.root / name).is_file()]
        if not found:
            above = [path for each in names if (path := self.root.parent / each).is_file()]
            way = f"{above[0]} lies one folder up: {parameter('root')}={self.root.parent} takes it." if above else ""
            raise self.missing(name, way or f"Expected {' or '.join(names)}, with the columns path,labels.")
        if len(found) > 1:
            there = " and ".join(path.name for path in found)
            raise InputError(f"{self.root} has {there}: name the split with its ending")
        return found[0]

    def _own(self, report: Report) -> tuple[str, ...]:
        """The classes that the user lists; none where labels say what they are, or the list has a fault."""
        file = self.root / "classes.txt"
        if self.classes is not None or not file.exists():
            return self.classes or ()
        try:
            return class_list(str(file), [*filter(None, map(str.strip, read_text(file).splitlines()))])
        except InputError as error:
            fault = Fault(NO_CLASS, str(file), clause(error, file))
        report(fault)
        return ()

    def _classes_of(self, path: Path, sheet: Sheet, report: Report) -> tuple[str, ...]:
        """The labels, or one-hot columns, of the split that classes come from. sheet: the file at `path`."""
        other = self.find(self.classes_from)
        source = sheet if other == path else read_sheet(other, self.separator, report)
        return source.classes or tuple(sorted(set(source.labels())))

    def _joint(self, path: Path, sheet: Sheet, own: Iterable[str], known: Iterable[str]) -> Iterator[Fault]:
        """Labels that look like several, where no separator was given."""
        if self.separator is not None:
            return
        counts = Counter(sheet.labels())
        for name, mark in SEPARATORS.items():
            joint = _parted(counts.keys() - set(own), counts.keys() | set(known), mark)
            if joint:
                first, total = (
                    max(joint, key=lambda label: (counts[label], label)),
                    sum(counts[label] for label in joint),
                )
                what = (
                    f"{total} labels such as {first!r} look like several: "
                    f"{parameter('label_separator')}={name} takes them apart"
                )
                yield Fault(SEPARATOR, str(path), what, Grade.WARNS)


def _separator(given: str | None) -> str | None:
    if given is None:
        return None
    key = parameter("label_separator")
    require_text(key, given)
    if not given:
        raise InputError(f"{key} is empty: give it as it stands, or as one of {', '.join(SEPARATORS)}")
    return SEPARATORS.get(given, given if given.isspace() else given.strip())


def _parted(labels: Iterable[str], known: Iterable[str], mark: str) -> list[str]:
    """Labels that `mark` cuts into labels that are there, too: alone, or where that is no blank, in others like it."""
    cut = {label: separate(label, mark) for label in {*labels, *known}}
    alone = {label for label, parts in cut.items() if len(parts) == 1}
    parts = Counter(part for each in cut.values() if len(each) > 1 for part in set(each))
    there = alone if mark == " " else alone | {part for part, times in parts.items() if times > 1}
    return [label for label in labels if len(cut[label]) > 1 and there.issuperset(cut[label])]


def _pictures(root: Path, rows: Iterable[Row]) -> Iterator[Picture]:
    """A picture for each id and path, with the labels of all its rows."""
    same: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        same.setdefault((row.id or row.path, row.path), []).append(row)
    for (id, path), each in same.items():
        yield Picture(id, root / path, each[0].at, tuple(_objects(each)))


def _objects(rows: Iterable[Row]) -> Iterator[Object]:
    """The labels of an image's rows, with their boxes where they have one; difficult ones last."""
    rows = list(rows)
    yield from (Object(label, box=row.box) for row in rows for label in row.labels)
    yield from (Object(label, difficult=True, box=row.box) for row in rows for label in row.difficult)


def _several_rows(path: Path, sheet: Sheet, num_pictures: int) -> Iterator[Fault]:
    again = len(sheet.rows) - num_pictures
    told = {(row.id, row.path, row.labels, row.difficult, row.box) for row in sheet.rows}
    fewest = 0 if any(row.box for row in sheet.rows) else 1  # an image without an object has a row, too
    is_row_a_label = all(fewest <= len(row.labels) + len(row.difficult) <= 1 for row in sheet.rows)
    if again and not (is_row_a_label and len(told) == len(sheet.rows)):
        what = f"{again} of {len(sheet.rows)} rows name an image again: its labels are taken together"
        yield Fault(ROWS, str(path), what, Grade.WARNS)
