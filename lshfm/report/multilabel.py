"""Multi-label results as tables."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from lshfm.console import shown
from lshfm.errors import count

DEFINITIONS = {
    "voc2010": "area under the monotone precision",
    "voc2007": "11 points",
    "uninterpolated": "mean precision at the positives",
}
_LETTERS = """in percent; CP, CR: precision and recall, means over the classes; CF1: their
harmonic mean; OP, OR, OF1: the same over all labels together"""


def tables(report: Mapping[str, Any]) -> RenderableType:
    """What metrics.multilabel.measure returned, all of it."""
    return Group(_classes(report), _means(report), _by_class(report), _thresholds(report), _counts(report))


def _classes(report: Mapping[str, Any]) -> Table:
    table = Table(title="average precision in percent, by the definitions below", title_justify="left")
    table.add_column("class")
    for name in DEFINITIONS:
        table.add_column(name, justify="right")
    for label, values in report["ap"].items():
        table.add_row(label, *(shown(values[name]) for name in DEFINITIONS))
    return table


def _means(report: Mapping[str, Any]) -> Table:
    table = Table(title="mean average precision", title_justify="left")
    for name in ("definition", "mAP", ""):
        table.add_column(name, justify="right" if name == "mAP" else "left")
    for name, meaning in DEFINITIONS.items():
        leads = "  <- leads" if name == report["metric"] else ""
        table.add_row(f"{name} ({meaning})", shown(report["mAPs"][name]), leads)
    return table


def _threshold(report: Mapping[str, Any]) -> float:
    return float(report.get("threshold", 0.5))


def _by_class(report: Mapping[str, Any]) -> Table:
    table = Table(title=f"a class at p >= {_threshold(report):g}", title_justify="left")
    table.add_column("class")
    for name in ("precision", "recall", "F1", "support"):
        table.add_column(name, justify="right")
    for row in report[f"threshold_{_threshold(report):g}_by_class"]:
        table.add_row(row["class"], *(shown(row[name]) for name in ("precision", "recall", "f1")), str(row["support"]))
    return table


def _thresholds(report: Mapping[str, Any]) -> Table:
    table = Table(title=f"at p >= {_threshold(report):g}", title_justify="left")
    names = ("CP", "CR", "CF1", "OP", "OR", "OF1")
    table.add_column("labels predicted")
    for name in names:
        table.add_column(name, justify="right")
    table.caption = _LETTERS
    table.caption_justify = "left"
    for title, key in (
        ("all that pass", f"threshold_{_threshold(report):g}"),
        ("the three highest that pass", "top_3"),
    ):
        table.add_row(title, *(shown(report[key][name]) for name in names))
    return table


def _counts(report: Mapping[str, Any]) -> str:
    without = report["classes_without_positives"]
    text = (
        f"{count(report['images'], 'image')}, {count(report['classes'], 'class', 'classes')}; "
        f"{report['ignored_difficult']} difficult labels ignored; "
        "classes without positives, left out of the means: "
    )
    return text + (", ".join(without) if without else "none")
