"""Fetches a data set's official file; only where the user asked for it."""

import fcntl
import hashlib
import http.client
import shutil
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lshfm.errors import InputError
from lshfm.files.write import replacing

SECONDS = 60.0  # without an answer


def fetch(url: str, path: Path, *, md5: str) -> None:
    """Download a file to `path`, which appears only once its MD5 is the official one.

    Raises InputError where it cannot be fetched, or is another file.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path), replacing(path) as temporary:
            if path.is_file():  # another process fetched it meanwhile
                shutil.copyfile(path, temporary)
                return
            with urllib.request.urlopen(url, timeout=SECONDS) as answer, temporary.open("wb") as file:
                shutil.copyfileobj(answer, file)
            with temporary.open("rb") as file:
                found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
            if found != md5:
                raise InputError(f"{url}: MD5 {found} instead of {md5}: another file than the official one, not kept")
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise InputError(f"cannot download {url}: {error}\nfetch it by other means into {path.parent}") from error


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait until no other process fetches the file."""
    with path.with_name(f".{path.name}.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
