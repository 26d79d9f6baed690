"""Atomic writes: a reader meets the whole old file or the whole new one, never half of one."""

import io
import json
import os
import shutil
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from lshfm.errors import FULL_DISK, RunFailed

TEMPORARY = ".{}.tmp"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` which takes its place when the block ends well.

    Raises RunFailed when the disk is full; what stood at `path` then still does.
    """
    temporary = path.with_name(TEMPORARY.format(path.name))
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _full_disk_explained(path):
            yield temporary
            _settle(temporary)
            temporary.replace(path)
            _settle(path.parent)  # the new name too outlasts a power cut
    finally:
        temporary.unlink(missing_ok=True)


def _settle(path: Path) -> None:
    """Wait until a file or a folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def duplicate(path: Path, name: Path) -> None:
    """Give a file a second name, by a hard link where the disk can, else by a copy; replaces what had that name."""
    with replacing(name) as temporary:
        temporary.unlink(missing_ok=True)
        try:
            temporary.hardlink_to(path)
        except OSError:  # a file system without hard links
            shutil.copyfile(path, temporary)


@contextmanager
def _full_disk_explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        kept = "the file before it is intact" if path.exists() else "nothing was written there"
        raise RunFailed(f"the disk is full: cannot write {path} ({kept}); make room and start again") from error


def append_line(path: Path, line: str) -> None:
    """Add a line to a text file. Raises RunFailed when the disk is full."""
    with _full_disk_explained(path), path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def append_bytes(path: Path, data: bytes) -> None:
    """Add bytes to a file. Raises RunFailed when the disk is full."""
    with _full_disk_explained(path), path.open("ab") as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """Write a whole text file at once."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, values: Any) -> None:
    """Write JSON that any reader takes: no NaN."""
    write_text(path, json.dumps(values, indent=1, allow_nan=False) + "\n")


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """torch.save of plain containers and tensors; serialised first, so that a full disk is an OSError."""
    write_bytes(path, checkpoint_bytes(content))


def checkpoint_bytes(content: dict[str, Any]) -> io.BytesIO:
    """What torch.save writes of plain containers and tensors."""
    import torch  # listings and sweeps write files without it

    assert_plain(content)
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer


def write_bytes_of(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Write a whole binary file at once, by a function that is given the open file, so that memory holds no copy."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        write(file)


def write_bytes(path: Path, buffer: io.BytesIO) -> None:
    """Write a whole binary file at once."""
    with replacing(path) as temporary, buffer.getbuffer() as content:
        temporary.write_bytes(content)


def assert_plain(value: Any, where: str = "checkpoint") -> None:
    """Fail on what torch.load(weights_only=True) would refuse later, such as numpy's numbers."""
    if type(value) in (dict, OrderedDict):
        for name, item in value.items():
            assert_plain(item, f"{where}[{name!r}]")
    elif type(value) in (list, tuple):
        for item in value:
            assert_plain(item, f"{where}[]")
    else:
        import torch

        assert type(value) in (int, float, str, bool, type(None)) or isinstance(value, torch.Tensor), where


def remove_left_overs(folder: Path) -> None:
    """Delete temporary files that a killed writer left in `folder`."""
    for path in folder.glob(TEMPORARY.format("*")):
        path.unlink(missing_ok=True)
