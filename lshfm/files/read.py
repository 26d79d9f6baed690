"""Checkpoint files, read as data: nothing in one ever runs."""

import errno
import hashlib
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lshfm.checks import look_up
from lshfm.errors import InputError
from lshfm.files.pickles import STAND_INS, check_pickles

_MOST_VALUES, _DEEPEST = 10**6, 50  # of what a file holds, all containers counted as often as they are in others


def sha256(path: Path) -> str:
    """The file's SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over a network's weights by name: the same for the same weights, whatever file they came from.

    Without BatchNorm's batch counts, which older files lack and nothing depends on.
    """
    total = hashlib.sha256()
    for name in sorted(name for name in state if not name.endswith("num_batches_tracked")):
        tensor = state[name].detach().cpu().contiguous()
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.flatten().view(torch.uint8).numpy().data)
    return total.hexdigest()


def _load(path: Path) -> Any:
    # Files of before torch 1.6 are no zip archives and cannot be mapped into memory.
    with warnings.catch_warnings(), torch.serialization.safe_globals(STAND_INS):
        warnings.simplefilter("ignore")
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))


def _fault(error: Exception) -> str:
    # EINVAL: torch seeks to before the start of a file that is too short.
    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
        return f"cannot be read: {error.strerror}"
    code = re.search(r"GLOBAL ([\w.]+)", str(error))
    if code:
        return f"refused: it contains code or unknown objects ({code[1]}), not tensors and plain values alone"
    return "not a checkpoint, or a truncated one: copy or download it again"


def _check_archive(path: Path, *, whole: bool) -> None:
    """Refuse a zip archive for its bytes; `whole`: by its checksums too, which torch does not look at."""
    with zipfile.ZipFile(path) as archive:
        if any(record.compress_type != zipfile.ZIP_STORED for record in archive.infolist()):
            raise InputError("it is compressed, which no checkpoint is")  # and could unpack to any size
        if whole and (broken := archive.testzip()):
            raise InputError(
                f"its checksums are wrong, first that of {broken}: some bits have changed; copy or download it again"
            )


def read_checkpoint(path: Path, *, whole: bool = True) -> dict[str, Any]:
    """What torch.save wrote: tensors (on the CPU, mapped from the file where possible) and plain values.

    whole: read all of it for its checksums; without, only what is asked of it later. Containers are plain ones, made
    anew. Raises InputError if the file is missing, unreadable, damaged, truncated, not a checkpoint, not a dictionary,
    if it holds tensors that are not dense or are larger than itself, or contains code, which never runs.
    """
    _require_file(path)
    try:
        if zipfile.is_zipfile(path):
            _check_archive(path, whole=whole)
        check_pickles(path)
        content = _Copy(path.stat().st_size).of(_load(path))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except Exception as error:  # damaged files make the readers raise nearly anything
        raise InputError(f"{path}: {_fault(error)}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}, not a dictionary of weights")
    return content


def _require_file(path: Path) -> None:
    try:
        look_up(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be looked up: {error.strerror}") from error
    if not path.is_file():
        what = "is not a regular file" if path.exists() else "no such file"
        raise InputError(f"{path}: {'is a folder, not a checkpoint' if path.is_dir() else what}")


class _Copy:
    """Copies a file's content into plain containers and dense tensors. Raises InputError for what no checkpoint holds.

    A crafted file may hold a container within itself or a thousand times in others, and objects whose attributes hide
    their methods.
    """

    def __init__(self, size: int) -> None:
        self.values = _MOST_VALUES
        self.bytes = size  # of the file, which holds all storages
        self.seen: set[int] = set()

    def of(self, value: Any, entry: str = "it", depth: int = 0) -> Any:
        """A copy of plain data, tensors without gradients. Raises InputError for tensors without dense values."""
        self.values -= 1
        if self.values < 0 or depth > _DEEPEST:
            raise InputError("refused: it holds values within values without end")
        if isinstance(value, dict):
            return {name: self.of(item, str(name), depth + 1) for name, item in dict.items(value)}
        if type(value) in (list, tuple):
            return type(value)(self.of(item, entry, depth + 1) for item in value)
        return self._tensor(torch.Tensor.detach(value), entry) if isinstance(value, torch.Tensor) else value

    def _tensor(self, tensor: torch.Tensor, entry: str) -> torch.Tensor:
        is_dense = tensor.layout is torch.strided and not tensor.is_quantized and not tensor.is_nested
        if not is_dense or tensor.device.type != "cpu":
            raise InputError(f"{entry[:80]!r} is no dense tensor with values, but sparse, quantised, nested or empty")
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.seen:
            self.seen.add(storage.data_ptr())
            self.bytes -= storage.nbytes()
        if self.bytes < 0 or tensor.nbytes > storage.nbytes():
            raise InputError(f"{entry[:80]!r} declares more values than the file holds")
        return tensor
