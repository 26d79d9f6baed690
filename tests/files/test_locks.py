"""Locks that keep a second process out, and disks that have none."""

import errno
import fcntl
from pathlib import Path

import pytest

from lshfm.files import locks
from lshfm.files.locks import locked


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_said", [])


def test_a_file_is_held_by_one(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with path.open("w") as first, path.open("w") as second:
        assert locked(first.fileno(), path)
        assert not locked(second.fileno(), path)
        first.close()
        assert locked(second.fileno(), path, wait=True)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_disk_without_locks_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str], number: int
) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, "no locks here")

    monkeypatch.setattr(fcntl, "flock", flock)
    for name in ("run/lock", "store/lock"):
        assert locked(7, tmp_path / name)
    (message,) = said
    assert message.startswith(f"the disk of {tmp_path / 'run'} has no file locks")


def test_other_errors_are_no_lack_of_locks(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        locked(10**6, tmp_path / "lock")
