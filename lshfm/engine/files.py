"""Writing files so that a reader never meets half of one."""

import errno
import io
import json
import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from lshfm.errors import RunFailed

TEMPORARY = ".{}.tmp"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` which takes its place when the block ends well.

    Raises RunFailed when the disk is full; what stood at `path` then still does.
    """
    temporary = path.with_name(TEMPORARY.format(path.name))
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            kept = "the file before it is intact" if path.exists() else "nothing was written"
            raise RunFailed(f"the disk is full: cannot write {path} ({kept}); make room and start again") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a whole text file at once."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, values: Any) -> None:
    """Write JSON that any reader takes: no NaN."""
    write_text(path, json.dumps(values, indent=1, allow_nan=False) + "\n")


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """torch.save of plain containers and tensors; serialised first, so that a full disk is an OSError."""
    assert_plain(content)
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def assert_plain(value: Any, where: str = "checkpoint") -> None:
    """Fail on what torch.load(weights_only=True) would refuse later, such as numpy's numbers."""
    if type(value) in (dict, OrderedDict):
        for name, item in value.items():
            assert_plain(item, f"{where}[{name!r}]")
    elif type(value) in (list, tuple):
        for item in value:
            assert_plain(item, f"{where}[]")
    else:
        assert type(value) in (int, float, str, bool, type(None)) or isinstance(value, torch.Tensor), where


def remove_left_overs(folder: Path) -> None:
    """Delete temporary files that a killed writer left in `folder`."""
    for path in folder.glob(TEMPORARY.format("*")):
        path.unlink(missing_ok=True)
