"""Checkpoint files, read as data: nothing in one ever runs."""

import errno
import hashlib
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lshfm.errors import InputError

# Checkpoints of the published code hold one numpy scalar (best_prec1), under numpy 1's or numpy 2's name.
_scalar = np.float64(0).__reduce__()[0]
NUMPY_SCALARS: list[Any] = [
    (_scalar, "numpy.core.multiarray.scalar"),
    (_scalar, "numpy._core.multiarray.scalar"),
    np.dtype,
    type(np.dtype("float64")),
]


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
    with warnings.catch_warnings(), torch.serialization.safe_globals(NUMPY_SCALARS):
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


def _damage(path: Path, *, whole: bool) -> str | None:
    """What is wrong with the bytes of a zip archive; `whole`: by its checksums too, which torch does not look at."""
    with zipfile.ZipFile(path) as archive:
        if any(record.compress_type != zipfile.ZIP_STORED for record in archive.infolist()):
            return "it is compressed, which no checkpoint is"  # and could unpack to any size
        if whole and (broken := archive.testzip()):
            return f"its checksums are wrong, first that of {broken}: some bits have changed; copy or download it again"
    return None


def read_checkpoint(path: Path, *, whole: bool = True) -> dict[str, Any]:
    """What torch.save wrote: tensors (on the CPU, mapped from the file where possible) and plain values.

    whole: read all of it for its checksums; without, only what is asked of it later. Raises InputError if the file is
    missing, unreadable, damaged, truncated, not a checkpoint, not a dictionary, or if it contains code, which never
    runs.
    """
    if not path.is_file():
        raise InputError(f"{path}: {'is a folder, not a checkpoint' if path.is_dir() else 'no such file'}")
    try:
        damage = _damage(path, whole=whole) if zipfile.is_zipfile(path) else None
        content = {} if damage else _load(path)
    except Exception as error:  # damaged files make the readers raise nearly anything
        raise InputError(f"{path}: {_fault(error)}") from error
    if damage:
        raise InputError(f"{path}: {damage}")
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}, not a dictionary of weights")
    return content
