"""Direction against magnitude: students beside their teacher as a table."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from lshfm.console import shown

COLUMNS = ("mAP", "angle", "length", "hash agreement")


def table(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> Table:
    """One row a network: its name, and the columns' texts."""
    result = Table(title="features beside the teacher's", title_justify="left")
    result.add_column("network", overflow="fold")
    for name in COLUMNS:
        result.add_column(name, justify="right")
    for name, values in rows:
        result.add_row(name, *(values[column] for column in COLUMNS))
    result.caption = "angle: degrees; length: student's / teacher's; hash agreement: % of 2048 bits, chance is 50"
    result.caption_justify = "left"
    return result


def student_row(report: Mapping[str, Any]) -> dict[str, str]:
    """A student's row, from its report; its mAP is missing after stage 1, features where widths differ."""
    mimicry = report["mimicry"]
    return {
        "mAP": shown(report["mAP"]) if "mAP" in report else "-",
        "angle": _or_dash(mimicry["angle"]),
        "length": _or_dash(mimicry["relative_length"]),
        "hash agreement": _or_dash(mimicry["hash_agreement"]),
    }


def teacher_row(report: Mapping[str, Any]) -> dict[str, str]:
    """The teacher's row, from a student's report."""
    perfect = {"angle": shown(0.0), "length": shown(1.0), "hash agreement": shown(100.0)}
    return {"mAP": shown(report["mimicry"]["teacher_mAP"]), **perfect}


def _or_dash(value: float | None) -> str:
    return "-" if value is None else shown(value)
