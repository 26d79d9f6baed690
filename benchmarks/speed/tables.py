"""A machine's figures as Markdown: the machine, all arms, and a table for each other part."""

from collections.abc import Mapping, Sequence
from typing import Any

Figures = Mapping[str, Any]
ARMS = ("images_per_second", "spread", "to_published", "to_resident", "to_roofline", "bound", "peak_MiB")
HEADS = (
    "images/s", "slowest to fastest round", "to published", "to resident", "to roofline", "roofline, images/s",
    "GPU MiB",
)  # fmt: skip
ALIKE = {"scaling": "images", "memory": "ranks"}  # parts that are rows of one table, and by what they differ
# of the figures that are measured in bytes or operations a second: shown in thousand millions
LARGE = ("_bytes", "_flops")


def markdown(parts: Mapping[str, Figures]) -> str:
    """All that is known."""
    sections = [_machine(parts), *_arms(parts)]
    for title, by in ALIKE.items():
        alike = [part["figures"] for name, part in parts.items() if _kind(name) == title and "figures" in part]
        if alike:
            sections.append(_titled(title, _of_dicts({str(own[by]): own for own in alike}, by, without=by)))
    for name, part in parts.items():
        if "figures" in part and _kind(name) not in ALIKE:
            sections.append(_titled(name, _of(part["figures"])))
        if "error" in part:
            sections.append(f"**{name}** failed: {part['error']}")
    return "\n\n".join(filter(None, sections))


def _kind(name: str) -> str:
    return name.partition("_")[0]


def _machine(parts: Mapping[str, Figures]) -> str:
    """In a sentence, as it was at the part that was measured last."""
    here = next((part["machine"] for part in reversed(list(parts.values())) if part.get("machine")), None)
    if not here:
        return ""
    short = " Tiny sizes: whether everything runs." if any(part.get("short") for part in parts.values()) else ""
    return (
        f"{here.get('device')} ({here.get('processor')}, {here.get('cores')} cores); torch {here.get('torch')}, Python "
        f"{here.get('python')}.{short}"
    )


def _arms(parts: Mapping[str, Figures]) -> list[str]:
    rows = [
        (name, arm, *(_shown(figures, key) for key in ARMS))
        for name, part in parts.items()
        for arm, figures in part.get("arms", {}).items()
    ]
    return [_table(("part", "arm", *HEADS), rows)] if rows else []


def _shown(figures: Figures, key: str) -> str:
    value = figures.get(key)
    if key == "images_per_second" and value is None:
        return str(figures.get("void", "-"))
    if key == "spread":
        return " to ".join(f"{each:g}" for each in value or ()) or "-"
    return _cell(value, key)


def _of(figures: Figures) -> str:
    if figures and all(isinstance(each, Mapping) for each in figures.values()):
        return _of_dicts(figures, "")
    return _table(("", ""), [(_unit(name), _cell(value, name)) for name, value in figures.items()])


def _of_dicts(figures: Mapping[str, Figures], head: str, without: str = "") -> str:
    """A row for each of several alike."""
    columns = [key for key in dict.fromkeys(key for own in figures.values() for key in own) if key != without]
    rows = [(name, *(_cell(own.get(key), key) for key in columns)) for name, own in figures.items()]
    return _table((head, *map(_unit, columns)), rows)


def _unit(name: str) -> str:
    plain = name.replace("_", " ")
    return f"{plain.removesuffix(' bytes')} GB/s" if name.endswith("_bytes") else (
        f"{plain.removesuffix(' flops')} GFLOP/s" if name.endswith("_flops") else plain
    )  # fmt: skip


def _cell(value: Any, name: str) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and name.endswith(LARGE):
        return f"{value / 1e9:.4g}"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _titled(title: str, table: str) -> str:
    return f"**{title}**\n\n{table}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
