"""Locks on files, which keep two processes from the same work; disks without them are worked on without."""

import errno
import fcntl
import logging
from pathlib import Path

log = logging.getLogger("lshfm")

# What flock says on network disks mounted without locks (NFS, Lustre) and on some file systems of user space.
WITHOUT = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}

_said: list[Path] = []  # nothing, or the first such file: it is said once a process


def locked(descriptor: int, path: Path, *, wait: bool = False) -> bool:
    """Take the lock of an open file; False if another process has it. wait: until that one gives it back.

    path: its name. True without a lock on a disk that has none, which the log then says.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in WITHOUT:
            raise
        _say(path)
    return True


def _say(path: Path) -> None:
    if not _said:
        log.warning(
            "the disk of %s has no file locks, as network disks may lack them: start a run once only, for nothing "
            "keeps a second process out of its folder or its pixel store",
            path.parent,
        )
        _said.append(path)


def is_locked(path: Path) -> bool:
    """Whether another process holds the lock of a file; False where there is none, or a disk without locks."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
