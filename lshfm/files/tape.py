"""A recording: a row of float32 numbers for each sample and epoch, a file an epoch, read by mapping it into memory.

A file holds the rows of all samples, then a checksum for each row, 0 where none was recorded. Rows are written before
their checksum, so that what a killed process leaves can be told from what is whole.
"""

import errno
import os
import zlib
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lshfm.errors import RunFailed

Index = NDArray[np.int64]
Rows = NDArray[np.float32]
_CHECK = np.dtype("<u4")


@dataclass
class Tape:
    """The recording in a folder, of `num` samples with `width` numbers each; epochs count from 0.

    Several processes of one machine may write to it at once.
    """

    folder: Path
    num: int
    width: int
    _maps: dict[int, tuple[Rows, NDArray[np.uint32]]] = field(default_factory=dict)  # of the epoch at hand
    _files: dict[int, int] = field(default_factory=dict)  # descriptors to write with, likewise

    @property
    def epoch_bytes(self) -> int:
        """What an epoch takes on the disk."""
        return self.num * (self.width * 4 + _CHECK.itemsize)

    def path(self, epoch: int) -> Path:
        """The file of an epoch; people count from 1."""
        return self.folder / f"epoch-{epoch + 1:04d}.f32"

    def has(self, epoch: int) -> bool:
        """Whether there is a whole file for an epoch, whatever is recorded in it."""
        path = self.path(epoch)
        return path.is_file() and path.stat().st_size == self.epoch_bytes

    def missing(self, epoch: int, index: Index) -> int:
        """How many of these samples are not recorded."""
        if not self.has(epoch):
            return len(np.unique(index))
        checks = np.fromfile(self.path(epoch), _CHECK, offset=self.num * self.width * 4)
        return int((checks[np.unique(index)] == 0).sum())

    def read(self, epoch: int, index: Index) -> tuple[Rows, NDArray[np.bool_]]:
        """The rows (B, width), and which of them are there and whole, (B,)."""
        if not self.has(epoch):
            return np.zeros((len(index), self.width), np.float32), np.zeros(len(index), bool)
        values, checks = self._mapped(epoch)
        rows, expected = values[index], checks[index]
        found = np.array([_checksum(row) for row in rows], np.uint32)
        return rows, (expected != 0) & (found == expected)

    def write(self, epoch: int, index: Index, rows: Rows) -> None:
        """Record rows (B, width). Raises RunFailed on a full disk."""
        checks = np.array([_checksum(row) for row in rows], _CHECK)
        try:
            file = self._opened(epoch)
            for sample, row in zip(index.tolist(), np.ascontiguousarray(rows, "<f4"), strict=True):
                os.pwrite(file, row.data, sample * self.width * 4)
            for sample, check in zip(index.tolist(), checks, strict=True):
                os.pwrite(file, check.tobytes(), self.num * self.width * 4 + sample * _CHECK.itemsize)
        except OSError as error:
            raise RunFailed(
                f"the teacher tape {self.path(epoch)} cannot be written: {error.strerror}. Make room and start again, "
                "or go on with teacher_tape=off"
            ) from error

    def close(self) -> None:
        """Let go of the files."""
        for file in self._files.values():
            os.close(file)
        self._files, self._maps = {}, {}

    def _mapped(self, epoch: int) -> tuple[Rows, NDArray[np.uint32]]:
        if epoch not in self._maps:
            self._maps.clear()
            path, shape = self.path(epoch), (self.num, self.width)
            values = np.memmap(path, np.dtype("<f4"), "r", 0, shape)
            checks = np.memmap(path, _CHECK, "r", self.num * self.width * 4, (self.num,))
            self._maps[epoch] = values, checks
        return self._maps[epoch]

    def _opened(self, epoch: int) -> int:
        if epoch not in self._files:
            self.close()
            if not self.has(epoch):
                self._allocate(epoch)
            self._files[epoch] = os.open(self.path(epoch), os.O_WRONLY)
        return self._files[epoch]

    def _allocate(self, epoch: int) -> None:
        """Make an epoch's file in full length, its room reserved; of several processes the first one's stays."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.path(epoch)
        if path.exists() and not self.has(epoch):
            path.unlink()  # cut short
        part = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with part.open("wb") as file:
                _reserve(file.fileno(), self.epoch_bytes)
            _name(part, path)
        finally:
            part.unlink(missing_ok=True)


def _name(part: Path, path: Path) -> None:
    """Give the file its name, unless another one has it by now."""
    try:
        with suppress(FileExistsError):
            path.hardlink_to(part)
    except OSError:  # a file system without hard links
        part.rename(path)


def _reserve(file: int, length: int) -> None:
    try:
        os.posix_fallocate(file, 0, length)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        os.ftruncate(file, length)  # a file system that promises no blocks


def _checksum(row: Rows) -> int:
    return zlib.crc32(np.ascontiguousarray(row).data) or 1  # 0 is what was never written
