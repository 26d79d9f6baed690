"""CIFAR-10 and CIFAR-100: 32 x 32 pixels, one label an image, from any of the official files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lshfm.checks import is_whole
from lshfm.datasets.checks import contents, find_root, first_five, require_choice
from lshfm.datasets.cifar_files import Files, open_files
from lshfm.datasets.in_memory import ArrayImages
from lshfm.datasets.reader import class_list
from lshfm.datasets.split import Pixels, Split
from lshfm.errors import InputError, parameter
from lshfm.files.unpickle import read_arrays

SIDE = 32
PIXELS = 3 * SIDE * SIDE
TEN = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class Layout:
    """How the official files of one of the two data sets are called, and what is in them."""

    archives: tuple[str, ...]  # pickled, then binary
    folders: tuple[str, ...]  # that these unpack to
    md5: str  # of the first archive
    pickles: dict[str, tuple[str, ...]]  # of each split
    binaries: dict[str, tuple[str, ...]]
    names: tuple[str, str]  # the pickle and the text file with the classes
    names_key: str
    labels_key: str
    label_bytes: int  # of a binary record; the last one is the label
    classes: int


LAYOUTS = {
    10: Layout(
        ("cifar-10-python.tar.gz", "cifar-10-binary.tar.gz"), ("cifar-10-batches-py", "cifar-10-batches-bin"),
        "c58f30108f718f92721af3b95e74349a",
        {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)},
        {"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)},
        ("batches.meta", "batches.meta.txt"), "label_names", "labels", 1, 10,
    ),
    100: Layout(
        ("cifar-100-python.tar.gz", "cifar-100-binary.tar.gz"), ("cifar-100-python", "cifar-100-binary"),
        "eb9058c3a382ffc7106e4002c42a8d85",
        {"train": ("train",), "test": ("test",)}, {"train": ("train.bin",), "test": ("test.bin",)},
        ("meta", "fine_label_names.txt"), "fine_label_names", "fine_labels", 2, 100,
    ),
}  # fmt: skip
URL = "https://www.cs.toronto.edu/~kriz/"
Part = tuple[Pixels, NDArray[np.int64]]


class CIFAR:
    """The splits "train" and "test" of CIFAR-10 or CIFAR-100 (the fine classes).

    root: a folder with the archive, or with what it unpacks to, pickled or binary; or that unpacked folder itself.
    download: fetch the official archive, checked by its hash, if none of these is there; nothing is fetched otherwise.
    """

    def __init__(self, root: str | Path, number: int = 100, download: bool = False) -> None:
        if not is_whole(number) or number not in LAYOUTS:
            raise InputError(f"{parameter('number')}={number}: must be 10 or 100")
        self.root = find_root(root)
        self.layout = LAYOUTS[number]
        self.number, self.download = number, download

    def split(self, name: str) -> Split:
        """Labels int64 (n,). Raises InputError for a split that is not there and for damaged files."""
        require_choice(f"CIFAR-{self.number} split", name, ("train", "test"))
        layout, files = self.layout, self._files()
        is_pickled = files.has(layout.pickles[name][0])
        parts = (layout.pickles if is_pickled else layout.binaries)[name]
        read: Callable[[bytes, str, Layout], Part] = _pickled if is_pickled else _binary
        found = [read(files.read(part), files.where(part), layout) for part in parts]
        array, labels = (np.concatenate(columns) for columns in zip(*found, strict=True))
        classes = self._classes(files, is_pickled=is_pickled)
        ids = tuple(f"{name}_{index:05d}" for index in range(len(labels)))
        return Split(name, classes, ids, labels, ArrayImages(array, files.where(parts[0])))

    def _files(self) -> Files:
        layout = self.layout
        wanted = [names[0] for kind in (layout.pickles, layout.binaries) for names in kind.values()]
        found = open_files(self.root, layout.folders, layout.archives, wanted)
        if found is None and self.download:
            from lshfm.datasets.download import fetch

            fetch(URL + layout.archives[0], self.root / layout.archives[0], md5=layout.md5)
            found = open_files(self.root, layout.folders, layout.archives, wanted)
        if found is None:
            raise InputError(
                f"No CIFAR-{self.number} at {parameter('root')}={self.root}. Expected {' or '.join(layout.archives)}, "
                f"or a folder with {wanted[0]} or {layout.binaries['train'][0]}; {contents(self.root)}.\n"
                f"{parameter('download')}=true fetches {URL}{layout.archives[0]}"
            )
        return found

    def _classes(self, files: Files, *, is_pickled: bool) -> tuple[str, ...]:
        """The names in the files; without any CIFAR-10's own, else numbers."""
        layout = self.layout
        name = layout.names[0 if is_pickled else 1]
        if not files.has(name):
            return TEN if self.number == len(TEN) else tuple(f"class {i:02d}" for i in range(layout.classes))
        where = files.where(name)
        listed = _listed(files.read(name), where, layout.names_key, is_pickled=is_pickled)
        if len(listed) != layout.classes:
            raise InputError(f"{where} names {len(listed)} classes instead of {layout.classes}: {first_five(listed)}")
        return class_list(where, listed)


def _listed(data: bytes, where: str, key: str, *, is_pickled: bool) -> list[str]:
    if is_pickled:
        names: Any = read_arrays(data, where).get(key)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise InputError(f"{where}: holds no list {key!r}")
        return names
    try:
        return [*filter(None, map(str.strip, data.decode("utf-8").splitlines()))]
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: not UTF-8 text") from error


def _pickled(data: bytes, where: str, layout: Layout) -> Part:
    content = read_arrays(data, where)
    pixels, labels = content.get("data"), content.get(layout.labels_key)
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != PIXELS:
        kind = f"{pixels.dtype} {pixels.shape}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise InputError(f"{where}: 'data' must be uint8 (n, {PIXELS}), and is {kind}")
    numbers: list[Any] = labels if isinstance(labels, list) else [labels]
    other = next((type(each).__name__ for each in numbers if type(each) is not int), None)
    if other or len(numbers) != len(pixels):
        what = other or f"{len(numbers)}"
        raise InputError(f"{where}: {layout.labels_key!r} must be {len(pixels)} whole numbers, and is {what}")
    return _images(pixels), _checked(numbers, where, layout)


def _binary(data: bytes, where: str, layout: Layout) -> Part:
    record = layout.label_bytes + PIXELS
    if not data or len(data) % record:
        raise InputError(f"{where}: {len(data)} bytes are no records of {record}: truncated, or of another data set")
    rows = np.frombuffer(data, np.uint8).reshape(-1, record)
    return _images(rows[:, layout.label_bytes :]), _checked(rows[:, layout.label_bytes - 1], where, layout)


def _images(rows: NDArray[np.uint8]) -> Pixels:
    """(n, 3072) in the order channel, row, column to (n, 32, 32, 3)."""
    return np.ascontiguousarray(rows.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1))


def _checked(labels: Sequence[int] | NDArray[np.uint8], where: str, layout: Layout) -> NDArray[np.int64]:
    numbers = np.array(labels, np.int64)
    bad = np.flatnonzero((numbers < 0) | (numbers >= layout.classes))
    if bad.size:
        raise InputError(f"{where}: image {bad[0]} has label {numbers[bad[0]]}, expected 0 to {layout.classes - 1}")
    return numbers
