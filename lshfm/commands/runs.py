"""lshfm runs: what lies in the folders of runs, two of them side by side, and what of them could go."""

import csv
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from lshfm.console import console, show_tables
from lshfm.console import shown as shown_score
from lshfm.errors import InputError, count, nearest, printable
from lshfm.runs.clean import KINDS, removable, remove
from lshfm.runs.filters import in_order, matching
from lshfm.runs.folder import differing_keys
from lshfm.runs.listing import COMMANDS, Listed, State, as_entry, differing, listed, numbers, read_run, shown
from lshfm.runs.record import Results

HELP = """usage: lshfm runs [KEY=VALUE] ...
       lshfm runs compare A B
       lshfm runs clean [what=unfinished,superseded,last] [delete=true]

Lists the runs in output_dir: finished, running, unfinished, failed; their
number, epochs, age, and the settings in which they differ. It reads folders
alone.

  output_dir=outputs   where they lie
  where=...            only those that fit, say
                       where='dataset=shapes,state=finished,name=*stage2'
  sort=age             by any column or setting; sort=score begins with the
                       best; a - in front turns it around
  format=table         or csv, json, for scripts

compare prints the settings in which two runs differ, and their metrics side by
side; A and B are names or folders.
clean lists what could go, and deletes it with delete=true; runs at work are
left alone."""
FORMATS = ("table", "csv", "json")
STYLES = {State.RUNNING: "bold", State.FAILED: "red", State.DAMAGED: "red", State.FOREIGN: "dim"}


@dataclass(frozen=True)
class Asked:
    """The keys of the command."""

    output_dir: str = "outputs"
    where: str = ""
    sort: str = "age"
    format: str = "table"
    what: str = ",".join(KINDS)
    delete: str = "false"


def run(words: Sequence[str]) -> None:
    """Print what is asked for. Raises InputError for a word that is none, and for runs that are not there."""
    if set(words) & {"-h", "--help"}:
        console.print(HELP)
        return
    asked = _asked([word for word in words if "=" in word])
    action, *names = [word for word in words if "=" not in word] or [""]
    if action == "compare":
        _compare(names, Path(asked.output_dir).expanduser())
    elif action == "clean" and not names:
        _clean(asked)
    elif action:
        raise InputError(f"lshfm runs {' '.join([action, *names])}: takes compare A B, clean, and KEY=VALUE")
    else:
        _list(asked)


def _asked(words: Sequence[str]) -> Asked:
    asked = Asked()
    for word in words:
        key, _, value = word.partition("=")
        if key not in vars(asked):
            raise InputError(f"{key}: no such key{nearest(key, vars(asked))}; see lshfm runs --help")
        asked = replace(asked, **{key: value})
    for key, known in (("format", FORMATS), ("delete", ("true", "false"))):
        if getattr(asked, key) not in known:
            raise InputError(f"{key}={getattr(asked, key)}: must be one of {', '.join(known)}")
    return asked


def _chosen(asked: Asked) -> list[Listed]:
    root = Path(asked.output_dir).expanduser()
    runs = listed(root)
    if not runs and not any((root / command).is_dir() for command in COMMANDS):
        raise InputError(f"output_dir={asked.output_dir}: no runs are there, neither train/ nor mimic/")
    return in_order(matching(runs, asked.where), asked.sort)


def _list(asked: Asked) -> None:
    runs = _chosen(asked)
    settings = differing(runs)
    if asked.format == "json":
        print(json.dumps([as_entry(run) for run in runs], indent=1))
    elif asked.format == "csv":
        _print_csv(runs, settings)
    else:
        console.print(_lines(runs, settings))
        states = [run.state for run in runs]
        counts = ", ".join(f"{states.count(state)} {state}" for state in State if state in states)
        console.print(f"{count(len(runs), 'run')} in {asked.output_dir}" + (f": {counts}" if counts else ""))


def _print_csv(runs: Sequence[Listed], settings: Mapping[Path, Mapping[str, Any]]) -> None:
    entries = [as_entry(run) for run in runs]
    names = sorted({name for values in settings.values() for name in values})
    columns = [name for name in as_entry(Listed(Path(), "", State.FOREIGN)) if name != "settings"]
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow([*columns, *names])
    for run, entry in zip(runs, entries, strict=True):
        own = [shown(run.settings[name]) if name in run.settings else "" for name in names]
        table.writerow([*(entry[name] for name in columns), *own])


def _lines(runs: Sequence[Listed], settings: Mapping[Path, Mapping[str, Any]]) -> Text:
    """Plain lines, not a table: a terminal may wrap them, grep finds them whole, and 1,000 of them take no time."""
    head = ["state", "epochs", "score", "metric", "age", "run", "settings that differ, or what is wrong"]
    rows = [head, *(_cells(run, settings.get(run.path, {})) for run in runs)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head) - 1)]
    styles = ["bold", *(STYLES.get(run.state, "") for run in runs)]
    return Text("\n").join(Text(_line(row, widths), style=style) for row, style in zip(rows, styles, strict=True))


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = (f"{cell:{side}{width}}" for cell, side, width in zip(row, "<>><><", widths, strict=False))
    return "  ".join([*cells, row[-1]]).rstrip()


def _cells(run: Listed, settings: Mapping[str, Any]) -> list[str]:
    epochs = f"{run.epoch}/{run.epochs}" if run.epochs else ""
    score = shown_score(run.score) if run.metric else ""
    says = run.note or " ".join(f"{key}={_brief(value)}" for key, value in settings.items())
    cells = [str(run.state), epochs, score, run.metric or "", age(run.age), f"{run.command}/{run.name}", says]
    return [printable(cell) for cell in cells]


def _brief(value: Any) -> str:
    """A setting's value; of a file's hash the first digits, which tell two of them apart."""
    text = shown(value)
    return text[:8] if re.fullmatch("[0-9a-f]{64}", text) else text


def age(seconds: float) -> str:
    """A time that has passed, in its largest unit: 5 min, 3 h, 12 d."""
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds)} s"


def _compare(names: Sequence[str], root: Path) -> None:
    if len(names) != 2:
        raise InputError("lshfm runs compare takes two runs, by their names or folders")
    pair = [_found(name, root) for name in names]
    here, there = (run.settings for run in pair)
    keys = [key for key in differing_keys(here, there) if not key.startswith("data.")]
    rows = [[key, *(_brief(run.settings[key]) if key in run.settings else "" for run in pair)] for key in keys]
    data = [key for key in differing_keys(here, there) if key.startswith("data.")]
    show_tables(_side_by_side("settings", [["run", *(run.name for run in pair)], *rows]))
    if data:
        console.print(f"other images or labels: {', '.join(key.removeprefix('data.') for key in data)}")
    show_tables(_side_by_side("metrics", _metrics(pair)))


def _metrics(pair: Sequence[Listed]) -> list[list[str]]:
    found = [_numbers_of(run) for run in pair]
    rows = [["state", *(str(run.state) for run in pair)], ["epochs", *(f"{run.epoch}/{run.epochs}" for run in pair)]]
    for key in dict.fromkeys(key for values in found for key in values):
        rows.append([key, *(f"{values[key]:.6g}" if key in values else "" for values in found)])
    return rows


def _numbers_of(run: Listed) -> dict[str, float]:
    first = {} if run.score is None else {str(run.metric): run.score}
    if run.state is not State.FINISHED:
        return first
    results = Results.read(run.path / "results.json")
    taken = {"training_seconds": results.training_seconds, "images_per_second": results.images_per_second}
    return first | numbers(results.report) | {key: value for key, value in taken.items() if value is not None}


def _side_by_side(title: str, rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=None, pad_edge=False, title=title, title_justify="left", show_header=False)
    for _ in range(3):
        table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table


def _found(name: str, root: Path) -> Listed:
    """The run that a name or a folder means. Raises InputError."""
    near = [root / command / name for command in COMMANDS]
    paths = [path for path in (Path(name).expanduser(), *near) if path.is_dir()]
    if not paths:
        known = [run.name for run in listed(root)]
        raise InputError(f"{printable(name)}: no run in {root} is called so, nor is it a folder{nearest(name, known)}")
    found = read_run(paths[0], paths[0].absolute().parent.name)
    if found.state in (State.FOREIGN, State.DAMAGED):
        raise InputError(f"{paths[0]}: {found.note}")
    return found


def _clean(asked: Asked) -> None:
    kinds = [kind for kind in asked.what.split(",") if kind]
    for kind in kinds:
        if kind not in KINDS:
            raise InputError(f"what={kind}: must be some of {', '.join(KINDS)}{nearest(kind, KINDS)}")
    found = removable(_chosen(asked), kinds)
    for kind in kinds:
        of_kind = [each for each in found if each.kind == kind]
        if of_kind:
            console.print(f"{KINDS[kind]}:")
        for each in of_kind:
            console.print(f"  {printable(str(each.run.path))}  {_size(each.bytes)}, {age(each.run.age)} old")
    total = _size(sum(each.bytes for each in found))
    if asked.delete == "false":
        console.print(f"{total} in all; delete=true deletes it" if found else "nothing could go")
        return
    for each in found:
        if not remove(each):
            console.print(f"  {printable(str(each.run.path))} is at work by now: left as it is")
    console.print(f"deleted: {total}")


def _size(number: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number} B"
