"""Whether a folder can be written in, asked before any work is done."""

import errno
import tempfile
from pathlib import Path

from lshfm.errors import InputError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})  # what a disk without room answers


def require_writable(folder: Path, key: str) -> None:
    """Raise InputError naming `key` if `folder` cannot be made or written in; leaves nothing there.

    A file without a name is tried: rights alone say too little of root's, and of /proc. A full disk passes: what is
    written there says so itself.
    """
    base = folder
    try:
        base = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
        if not base.is_dir():
            raise InputError(f"{key}: {base} is a file, so {folder} cannot be a folder; choose another {key}=")
        with tempfile.TemporaryFile(dir=base):
            pass
    except OSError as error:
        if error.errno not in FULL:
            raise InputError(f"{key}: {base} cannot be written to ({error.strerror}); choose another {key}=") from error
