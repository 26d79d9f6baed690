"""The file that a store lies in: a .npy array (n, S, S, 3) followed by one byte, a mark, for each picture.

The marks say which pictures are decoded and which are broken. They are written last, and the file gets its
name when it is whole. Pictures of many shapes lie in a file of another layout: ragged_file.
"""

import errno
import io
import os
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np

from lshfm.datasets.decode import decode_each
from lshfm.datasets.split import Images, Pixels

# No mark is 0, which is what a file reads as that lost its end to a power cut.
_DECODED, _BROKEN = b"\1", b"\2"


@dataclass(frozen=True, eq=False)
class Store:
    """Decoded pictures: read-only uint8 (n, S, S, 3), zeros where broken."""

    pixels: Pixels
    broken: tuple[int, ...]
    path: Path


@dataclass(frozen=True)
class StoreFile:
    """The file of a store for n pictures of size x size, whether it exists or not."""

    path: Path
    n: int
    size: int

    @cached_property
    def header(self) -> bytes:
        return header_of(self.n, self.size, self.size, 3)

    @property
    def length(self) -> int:
        """The file's size in bytes."""
        return len(self.header) + self.n * (self.size * self.size * 3 + 1)

    def planned(self, images: Images, workers: int) -> Self:  # noqa: ARG002
        """The file with all that must be known before it is made."""
        return self

    def fault(self) -> str | None:
        """Why it can't be used, as a clause that continues its name, if anything is wrong with it."""
        try:
            with self.path.open("rb") as file:
                if why := self._fault(file, os.fstat(file.fileno()).st_size):
                    return why
                file.seek(-self.n, os.SEEK_END)
                return "was never finished" if file.read().strip(_DECODED + _BROKEN) else None
        except OSError as error:
            return f"cannot be read: {error.strerror}"

    def _fault(self, file: BinaryIO, length: int) -> str | None:
        """What is wrong before the marks. length: of the file."""
        if length != self.length:
            return f"has {length} bytes instead of {self.length}"
        return None if file.read(len(self.header)) == self.header else "has a damaged header"

    def open(self) -> Store:
        """The store, of a file without fault."""
        pixels = np.memmap(self.path, np.uint8, "r", len(self.header), (self.n, self.size, self.size, 3))
        return Store(pixels, self.broken(), self.path)

    def broken(self) -> tuple[int, ...]:
        """The pictures that are marked so."""
        marks = np.fromfile(self.path, np.uint8, self.n, offset=self.path.stat().st_size - self.n)
        return tuple(np.flatnonzero(marks == _BROKEN[0]).tolist())

    def allocate(self) -> None:
        """Create the file in full length, its blocks reserved: a full disk is better noticed before decoding."""
        with self.path.open("wb") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, self.length)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                    raise
                file.truncate(self.length)  # a file system that promises no blocks
            self._begin(file)

    def _begin(self, file: BinaryIO) -> None:
        """Write what is known before the pictures are."""
        file.write(self.header)

    def fill(self, images: Images, chunk: range) -> dict[int, str]:
        """Decode the chunk's pictures into an allocated file; returns messages on broken ones, by index."""
        # Written and not mapped: a full disk is then an error instead of a fatal signal.
        with self.path.open("r+b") as file:

            def write(index: int, pixels: Pixels) -> None:
                file.seek(len(self.header) + index * pixels.nbytes)
                file.write(pixels.tobytes())

            return decode_each(images, chunk, self.size, write)

    def seal(self, broken: Collection[int]) -> None:
        """Write the marks and wait until all of the file is on the disk."""
        with self.path.open("r+b") as file:
            file.seek(-self.n, os.SEEK_END)
            file.write(b"".join(_BROKEN if i in broken else _DECODED for i in range(self.n)))
            file.flush()
            os.fsync(file.fileno())


def header_of(*shape: int) -> bytes:
    """How a .npy file of bytes of this shape begins."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return header.getvalue()
