"""Students beside their teacher as a table: score, and the angle, length and hash bits of their features."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from lshfm.console import shown

COLUMNS = ("angle", "length", "hash agreement", "own medians")
CAPTION = """angle: degrees; length: student's / teacher's
hash agreement: % of 2048 bits, both networks' by the teacher's medians; 50 at
  any angle for a student whose features have an offset
own medians: the same, but the student's bits by its own medians; chance is 50"""


def table(rows: Sequence[tuple[str, Mapping[str, Any]]], score: str) -> Table:
    """One row a network: its name, and the columns' texts. score: what the leading number is called."""
    result = Table(title="features beside the teacher's", title_justify="left")
    result.add_column("network", overflow="fold")
    for name in (score, *COLUMNS):
        result.add_column(name.replace(" ", "\n"), justify="right")
    for name, values in rows:
        result.add_row(name, *(values[column] for column in (score, *COLUMNS)))
    result.caption = CAPTION
    result.caption_justify = "left"
    return result


def student_row(report: Mapping[str, Any], score: str) -> dict[str, str]:
    """A student's row, from its report; its score is missing after stage 1, features where widths differ."""
    mimicry = report["mimicry"]
    return {
        score: shown(report[score]) if score in report else "-",
        "angle": _or_dash(mimicry["angle"]),
        "length": _or_dash(mimicry["relative_length"]),
        "hash agreement": _or_dash(mimicry["hash_agreement"]),
        "own medians": _or_dash(mimicry.get("hash_agreement_own_medians")),  # older reports lack it
    }


def teacher_row(report: Mapping[str, Any], score: str) -> dict[str, str]:
    """The teacher's row, from a student's report."""
    perfect = {"angle": shown(0.0), "length": shown(1.0)} | dict.fromkeys(COLUMNS[2:], shown(100.0))
    return {score: shown(report["mimicry"][f"teacher_{score}"]), **perfect}


def _or_dash(value: float | None) -> str:
    return "-" if value is None else shown(value)
