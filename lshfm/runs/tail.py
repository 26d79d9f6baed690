"""The lines that a run adds to its metrics.jsonl while others watch."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from lshfm.engine.lines import Line
from lshfm.errors import InputError
from lshfm.runs.record import read_line


class Tail:
    """Gives each line of a metrics.jsonl once; a file that is written anew is read from its start."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._inode, self._offset = 0, 0

    def lines(self) -> list[Line]:
        """The whole lines that came since the last call; what is no line of ours is left out."""
        try:
            with self.path.open("rb") as file:
                found = os.fstat(file.fileno())
                if found.st_ino != self._inode or found.st_size < self._offset:
                    self._inode, self._offset = found.st_ino, 0
                file.seek(self._offset)
                text, _, _ = file.read().rpartition(b"\n")
        except OSError:
            return []
        self._offset += len(text) + 1 if text else 0
        return list(_read(text.decode(errors="replace")))


def _read(text: str) -> Iterator[Line]:
    for each in text.splitlines():
        with suppress(InputError):  # of a newer version
            if line := read_line(each):
                yield line
