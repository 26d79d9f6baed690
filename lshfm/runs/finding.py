"""Run folders by what a user types for them: folders, folders of folders, globs, names."""

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

from lshfm.errors import InputError, nearest, printable
from lshfm.runs.kept import is_run

COMMANDS = ("train", "mimic", "eval")
DEEPEST = 4  # levels below a folder that are looked through


def find_runs(words: Sequence[str], output_dir: Path = Path("outputs")) -> list[Path]:
    """The run folders that the words name, each once, in their order.

    A word is a run folder, a folder with run folders below it, a glob of either, or a run's name in `output_dir`. A
    folder without any run is taken as it is: a report says so. Raises InputError for a word that names nothing.
    """
    found = [path for word in words for path in _named(word, output_dir)]
    return list({path.resolve(): path for path in found}.values())


def _named(word: str, output_dir: Path) -> list[Path]:
    path = Path(word).expanduser()
    if path.is_dir():
        return _within(path)
    if path.is_file() and is_run(path.parent):
        return [path.parent]
    matches = sorted(glob.glob(str(path))) if any(char in word for char in "*?[") else []
    if not matches and "/" not in word:
        pattern = word if any(char in word for char in "*?[") else glob.escape(word)
        matches = [
            str(place)
            for command in COMMANDS
            for ending in ("", "_stage1", "_stage2")
            for place in sorted((output_dir / command).glob(f"{pattern}{ending}"))
        ]
    folders = [Path(match) for match in matches if Path(match).is_dir()]
    if not folders:
        names = [each.name for command in COMMANDS for each in (output_dir / command).glob("*")]
        raise InputError(
            f"{printable(word)}: no run folder, and no run in {output_dir} is called so{nearest(word, names)}"
        )
    return [each for folder in dict.fromkeys(folders) for each in _within(folder)]


def _within(folder: Path) -> list[Path]:
    """The folder itself if it is a run's, else those of runs below it; the folder where there are none."""
    if is_run(folder):
        return [folder]
    return list(_below(folder, DEEPEST)) or [folder]


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
