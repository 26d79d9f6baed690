"""Whether a manifest is of images with one label each, by how its field is called and what its first rows hold."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

from lshfm.datasets.manifest import Manifest
from lshfm.datasets.sheet import Row, read_sheet
from lshfm.datasets.sheet_columns import ONE
from lshfm.errors import InputError

MOST_BYTES = 2**18  # of the file that are looked at: some thousand rows


def has_one_label(root: str, names: Sequence[str], separator: str | None) -> bool:
    """Whether labels are in a field `label`, one for each image, in the first of the named splits that is there.

    False for what cannot be read: its reader says why.
    """
    try:
        source = Manifest(root, label_separator=separator)
    except InputError:
        return False
    return next((_of_split(source, name) for name in names if _is_there(source, name)), False)


def _is_there(source: Manifest, name: str) -> bool:
    try:
        return source.find(name).is_file()
    except (InputError, OSError, ValueError):
        return False


def _of_split(source: Manifest, name: str) -> bool:
    path = source.find(name)
    try:
        status = path.stat()
        return _by_its_beginning(path, source.separator, status.st_size, status.st_mtime_ns)
    except OSError:
        return False


@lru_cache(maxsize=16)
def _by_its_beginning(path: Path, separator: str | None, size: int, _time: int) -> bool:
    with path.open("rb") as file:
        text = file.read(MOST_BYTES).decode("utf-8-sig", "replace")
    if size > MOST_BYTES:
        text = text[: text.rfind("\n") + 1]
    sheet = read_sheet(path, separator, lambda _: None, text)
    ids = [row.id or row.path for row in sheet.rows]
    is_one: Callable[[Row], bool] = lambda row: len(row.labels) == 1 and not row.difficult and row.box is None  # noqa: E731
    return sheet.label_field.lower() == ONE and all(map(is_one, sheet.rows)) and len(set(ids)) == len(ids)
