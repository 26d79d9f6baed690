"""Where CIFAR's files are: unpacked in a folder, or inside an archive that stays packed."""

import tarfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from lshfm.datasets.checks import read_bytes
from lshfm.errors import InputError

_LARGEST = 2**30  # bytes of a file in an archive; the official ones have 0.2 of it


class Files(Protocol):
    """Named files of a data set."""

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        ...

    def read(self, name: str) -> bytes:
        """All of a file. Raises InputError."""
        ...

    def where(self, name: str) -> str:
        """What to call a file in a message."""
        ...


@dataclass(frozen=True)
class InFolder:
    """Files of a folder."""

    folder: Path

    def has(self, name: str) -> bool:
        return (self.folder / name).is_file()

    def read(self, name: str) -> bytes:
        if not self.has(name):
            raise InputError(f"{self.folder / name} is missing: copy or unpack the data set again")
        return read_bytes(self.folder / name)

    def where(self, name: str) -> str:
        return str(self.folder / name)


@dataclass(frozen=True)
class InArchive:
    """Files of a .tar.gz, by their last names; each archive is read once."""

    path: Path

    def has(self, name: str) -> bool:
        return name in self._contents

    def read(self, name: str) -> bytes:
        if name not in self._contents:
            raise InputError(f"{self.path} holds no {name}: truncated, or of another data set; copy it again")
        return self._contents[name]

    def where(self, name: str) -> str:
        return f"{self.path}: {name}"

    @cached_property
    def _contents(self) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        try:
            with tarfile.open(self.path, "r:gz") as archive:
                for member in archive:
                    if member.size > _LARGEST:
                        raise InputError(f"{self.path} holds a file of {member.size} bytes, which no CIFAR archive has")
                    file = archive.extractfile(member) if member.isfile() else None
                    if file is not None:
                        found[Path(member.name).name] = file.read()
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            raise InputError(f"{self.path} is truncated or damaged ({error}): copy or download it again") from error
        return found


def open_files(root: Path, folders: Sequence[str], archives: Sequence[str], wanted: Sequence[str]) -> Files | None:
    """The first of: `root` itself and the unpacked folders in it, if one holds a wanted file; an archive in `root`."""
    for folder in (root, *(root / name for name in folders)):
        if any((folder / name).is_file() for name in wanted):
            return InFolder(folder)
    return next((InArchive(root / name) for name in archives if (root / name).is_file()), None)
