"""What of run folders could go: unfinished ones, ones that a longer run has overtaken, checkpoints to go on from."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lshfm.files.locks import locked
from lshfm.runs.folder import RunFolder, differs_in_length_alone
from lshfm.runs.listing import Listed, State

KINDS = {
    "unfinished": "unfinished and failed runs, whole: what they have done is lost",
    "superseded": "runs whose settings a finished run trained for more epochs, whole; their checkpoints stay",
    "last": "last.ckpt of finished runs: these can then not be trained on exactly (epochs=MORE begins anew)",
}


@dataclass(frozen=True)
class Removable:
    """A folder or some files of one that could go."""

    kind: str
    run: Listed
    paths: tuple[Path, ...]
    bytes: int


def removable(runs: Sequence[Listed], kinds: Sequence[str]) -> list[Removable]:
    """What could go, by kind; nothing of a run that is at work, of a damaged folder, or of one that is no run."""
    return [each for each in _all(runs) if each.kind in kinds]


def _all(runs: Sequence[Listed]) -> Iterator[Removable]:
    for run in runs:
        if run.state in (State.UNFINISHED, State.FAILED):
            yield _whole("unfinished", run)
        elif run.state is State.FINISHED and any(_overtakes(other, run) for other in runs):
            yield _whole("superseded", run)
        elif run.state is State.FINISHED and (lasts := tuple(RunFolder(run.path).lasts())):
            yield Removable("last", run, lasts, sum(path.stat().st_size for path in lasts))


def _whole(kind: str, run: Listed) -> Removable:
    files = [path for path in run.path.rglob("*") if path.is_file() and not path.is_symlink()]
    return Removable(kind, run, (run.path,), sum(path.stat().st_size for path in files))


def _overtakes(other: Listed, run: Listed) -> bool:
    return (
        other.state is State.FINISHED
        and (other.command, other.stage) == (run.command, run.stage)
        and (other.epochs or 0) > (run.epochs or 0)
        and differs_in_length_alone(run.settings, other.settings)
    )


def remove(found: Removable) -> bool:
    """Delete it; False, with all left as it is, where a process has come to hold the folder."""
    path = found.run.path / ".lock"
    with suppress(FileNotFoundError), path.open("w") as lock:
        if not locked(lock.fileno(), path):
            return False
        for each in found.paths:
            if each.is_dir():
                shutil.rmtree(each)
            else:
                each.unlink(missing_ok=True)
        return True
    return True
