"""Run folders by what a user types for them: folders, folders of folders, globs, names."""

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lshfm.errors import InputError, nearest, printable
from lshfm.runs.facts import is_run
from lshfm.runs.sweep import SweepJob, SweepRecord, paths_of

COMMANDS = ("train", "mimic", "eval")
PLACES = (*COMMANDS, "sweeps")  # folders of an output_dir
DEEPEST = 4  # levels below a folder that are looked through


@dataclass(frozen=True)
class Found:
    """A run folder, and what the job of a sweep that was to make it says of it."""

    path: Path
    note: str = ""


def find_runs(words: Sequence[str], output_dir: Path = Path("outputs")) -> list[Found]:
    """The run folders that the words name, each once, in their order.

    A word is a run folder, a sweep's, a folder with run folders below it, a glob of these, or the name of a run or
    sweep in `output_dir`, alone or as COMMAND/NAME. A folder without any run is taken as it is: a report says so.
    Raises InputError for a word that names nothing, and for a sweep whose record is damaged.
    """
    found = [each for word in words for each in _named(word, output_dir)]
    return list({each.path.resolve(): each for each in found}.values())


def _named(word: str, output_dir: Path) -> list[Found]:
    path = Path(word).expanduser()
    if path.is_dir():
        return _within(path)
    if path.is_file() and is_run(path.parent):
        return [Found(path.parent)]
    matches = sorted(glob.glob(str(path))) if any(char in word for char in "*?[") else []  # noqa: PTH207
    command, _, name = word.rpartition("/")
    if not matches and command in ("", *PLACES):
        pattern = name if any(char in name for char in "*?[") else glob.escape(name)
        matches = [
            str(place)
            for command in ([command] if command else PLACES)
            for ending in ("", "_stage1", "_stage2")
            for place in sorted((output_dir / command).glob(f"{pattern}{ending}"))
        ]
    folders = [Path(match) for match in matches if Path(match).is_dir()]
    if not folders:
        names = [str(output_dir)] if output_dir.is_dir() else []
        names += [each.name for command in COMMANDS for each in (output_dir / command).glob("*")]
        raise InputError(
            f"{printable(word)}: no run folder, and no run in {output_dir} is called so{nearest(word, names)}"
        )
    return [each for folder in dict.fromkeys(folders) for each in _within(folder)]


def _within(folder: Path) -> list[Found]:
    """The folder itself if it is a run's, a sweep's runs, else those of runs below it; itself where there are none."""
    if is_run(folder):
        return [Found(folder)]
    if (folder / "sweep.json").is_file():
        return [found for job in SweepRecord.read(folder).jobs for found in _of_job(folder, job)]
    return [Found(path) for path in _below(folder, DEEPEST)] or [Found(folder)]


def _of_job(folder: Path, job: SweepJob) -> list[Found]:
    """A job's runs that are there; its last one in any case."""
    paths = paths_of(folder, job.runs)
    note = f"job {job.number} of the sweep: {job.state}{f', {printable(job.error)}' if job.error else ''}"
    return [Found(path, "" if path.is_dir() else note) for path in paths if path.is_dir() or path == paths[-1]]


def _below(folder: Path, levels: int) -> Iterator[Path]:
    try:
        inside = sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError:
        return
    for path in inside:
        if is_run(path):
            yield path
        elif levels > 1:
            yield from _below(path, levels - 1)
