"""The file of a store of pictures of many shapes: their pixels in a row, a table of where each lies, and the marks.

It begins as a .npy array (total,) of bytes. The table has a row a picture: where its pixels start, height and width. So
it is whole or absent, and told from a damaged one, just as a store of squares.
"""

import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from lshfm.datasets.decode import decode_each, over
from lshfm.datasets.split import Images, Pixels
from lshfm.datasets.store_file import Store, StoreFile, header_of

ROW = np.dtype([("start", "<u8"), ("height", "<u4"), ("width", "<u4")])
Table = NDArray[np.void]  # (n,) of ROW
Shape = tuple[int, int]  # height and width


@dataclass(frozen=True, eq=False)
class RaggedStore(Store):
    """Decoded pictures of many shapes. pixels: all of the file; begin: where those of the first picture start."""

    table: Table
    begin: int

    def __len__(self) -> int:
        return len(self.table)

    def picture(self, index: int) -> Pixels:
        """Read-only uint8 (h, w, 3); of a broken picture (0, 0, 3)."""
        start, height, width = self.table[index].tolist()
        first = self.begin + start
        return self.pixels[first : first + height * width * 3].reshape(height, width, 3)


@dataclass(frozen=True)
class RaggedFile(StoreFile):
    """The file of a store for n pictures, whether it exists or not. size: of their short side, 0 for their own size.

    table: once it is planned.
    """

    table: Table | None = field(default=None, compare=False, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.n, self.size)  # a process that fills it finds the table in the file

    @property
    def header(self) -> bytes:
        return header_of(self._total)

    @property
    def length(self) -> int:
        """The file's size in bytes."""
        return len(self.header) + self._total + self._behind

    @property
    def _total(self) -> int:
        assert self.table is not None
        return total_of(self.table)

    @property
    def _behind(self) -> int:
        return self.n * (ROW.itemsize + 1)

    def planned(self, images: Images, workers: int) -> Self:
        """The file with its table, by the shapes that the pictures' headers tell."""
        with closing(over(images, _shapes, workers)) as found:
            shapes = [shape for _, shapes in found for shape in shapes]
        return replace(self, table=table_of(shapes))

    def _fault(self, file: BinaryIO, length: int) -> str | None:
        table = self._table_in(file, length)
        if table is None:
            return f"has {length} bytes, too few for {self.n} pictures"
        shapes = np.stack([table["height"], table["width"]], axis=1)
        if not np.array_equal(table_of(shapes), table):
            return "has a damaged table"
        file.seek(0)
        return super(RaggedFile, replace(self, table=table))._fault(file, length)

    def _table_in(self, file: BinaryIO, length: int) -> Table | None:
        if length < self._behind:
            return None
        file.seek(length - self._behind)
        return np.frombuffer(file.read(self.n * ROW.itemsize), ROW)

    def open(self) -> RaggedStore:
        """The store, of a file without fault."""
        table = self._read()
        return RaggedStore(
            np.memmap(self.path, np.uint8, "r"), self.broken(), self.path, table, len(header_of(total_of(table)))
        )

    def _read(self) -> Table:
        with self.path.open("rb") as file:
            table = self._table_in(file, os.fstat(file.fileno()).st_size)
        assert table is not None
        return table

    def _begin(self, file: BinaryIO) -> None:
        super()._begin(file)
        assert self.table is not None
        file.seek(len(self.header) + self._total)
        file.write(self.table.tobytes())

    def fill(self, images: Images, chunk: range) -> dict[int, str]:
        """Decode the chunk's pictures into an allocated file; returns messages on broken ones, by index."""
        table = self._read()
        begin = len(header_of(total_of(table)))
        odd: dict[int, str] = {}
        with self.path.open("r+b") as file:

            def write(index: int, pixels: Pixels) -> None:
                start, *shape = table[index].tolist()
                if [*pixels.shape[:2]] != shape:
                    odd[index] = f"{images.where(index)} is of another size than its header says"
                    return
                file.seek(begin + start)
                file.write(pixels.tobytes())

            return decode_each(images, chunk, self.size, write) | odd


def table_of(shapes: Sequence[Shape] | NDArray[Any]) -> Table:
    """Where pictures of these heights and widths lie, one behind the other."""
    table = np.zeros(len(shapes), ROW)
    if len(shapes):
        table["height"], table["width"] = np.array(shapes).T
        table["start"][1:] = np.cumsum(_sizes(table))[:-1]
    return table


def estimated(images: Any, samples: int = 200) -> int:
    """About how many bytes a store of so many pictures takes, by the shapes of some that lie evenly among them."""
    chosen = np.unique(np.linspace(0, len(images) - 1, min(samples, len(images))).astype(int))
    table = table_of([images.shape(int(index)) for index in chosen])
    return len(images) * (ROW.itemsize + 1 + total_of(table) // len(table))


def _sizes(table: Table) -> NDArray[np.uint64]:
    sizes: NDArray[np.uint64] = table["height"].astype(np.uint64) * table["width"] * np.uint64(3)
    return sizes


def total_of(table: Table) -> int:
    """The bytes of all pixels."""
    return int(_sizes(table).sum())


def _shapes(images: Any, chunk: range) -> list[Shape]:
    return [images.shape(index) for index in chunk]
