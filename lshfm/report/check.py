"""What a data set's check found, as tables."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from lshfm.console import speed
from lshfm.errors import count, printable

SHOWN = 5  # faults of each kind that are listed


def tables(found: Mapping[str, Any]) -> RenderableType:
    """What `lshfm check` gathered: images of each class, the first faults and warnings of each kind, a summary."""
    listed = [line for name, split in found["splits"].items() for line in _faults(name, split["faults"])]
    listed += _faults("equal files", found["equal_files"])
    for word in ("warning", "note"):
        splits = found["splits"].items()
        listed += [line for name, split in splits for line in _faults(f"{name}: {word}", split[f"{word}s"])]
    summary = count(found["num_faults"], "fault") if found["num_faults"] else "no faults"
    summary += f", {count(found['num_warnings'], 'warning')}" if found["num_warnings"] else ""
    read = f"{count(found['images'], 'image')} in {found['seconds']:.1f} s, {speed(found['images_per_second'])}"
    return Group(_classes(found), *listed, f"{found['dataset']}: {summary}; {read}")


def _classes(found: Mapping[str, Any]) -> Table:
    splits = found["splits"]
    table = Table(title="images that show a class (of these, only difficult objects)", title_justify="left")
    table.add_column("class")
    for name in splits:
        table.add_column(name, justify="right")
    for label in dict.fromkeys(label for split in splits.values() for label in split["classes"]):
        table.add_row(printable(label), *(_count(split["classes"].get(label)) for split in splits.values()))
    table.add_row("all images", *(str(split["images"]) for split in splits.values()))
    return table


def _count(counts: Mapping[str, int] | None) -> str:
    total = sum(counts.values()) if counts else 0
    return f"{total} ({counts['difficult']})" if counts and total else "0"


def _faults(name: str, faults: Sequence[Mapping[str, str]]) -> Iterator[str]:
    for kind in dict.fromkeys(fault["kind"] for fault in faults):
        same = [fault for fault in faults if fault["kind"] == kind]
        yield f"{name}: {kind}: {len(same)}"
        yield from (f"  {printable(fault['where'])}: {printable(fault['what'])}" for fault in same[:SHOWN])
        if len(same) > SHOWN:
            yield f"  and {len(same) - SHOWN} more (format=json lists all)"
