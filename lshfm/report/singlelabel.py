"""Single-label results as tables."""

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from lshfm.console import shown
from lshfm.errors import count, printable
from lshfm.metrics.singlelabel import BINS, DEFINITIONS, most_confused

SHOWN = 100  # classes that are listed, and of more of them the worst
WORST, CONFUSED = 20, 10


def tables(report: dict[str, Any]) -> RenderableType:
    """What metrics.singlelabel.measure returned; of many classes the worst, confusion.csv has all."""
    return Group(_classes(report), _confused(report), _means(report), _counts(report))


def _means(report: dict[str, Any]) -> Table:
    table = Table(title="over all images", title_justify="left")
    for name in ("metric", "value", ""):
        table.add_column(name, justify="right" if name == "value" else "left")
    for name, meaning in DEFINITIONS.items():
        leads = "  <- leads" if name == report["metric"] else ""
        table.add_row(f"{name} ({meaning}, %)", shown(report[name]), leads)
    table.add_row("mean accuracy of the classes (%)", shown(report["mean_class_accuracy"]), "")
    table.add_row("NLL (mean of -log p of the label, nats)", shown(report["nll"]), "")
    table.add_row(f"ECE (gap of confidence and accuracy, {BINS} bins, %)", shown(report["ece"]), "")
    return table


def _classes(report: dict[str, Any]) -> Table:
    rows = report["per_class"]
    is_cut = len(rows) > SHOWN
    if is_cut:
        rows = sorted((row for row in rows if row["support"]), key=lambda row: row["accuracy"])[:WORST]
    title = f"the {len(rows)} worst classes" if is_cut else "each class"
    table = Table(title=title, title_justify="left")
    table.add_column("class")
    for name in ("accuracy", "precision", "images"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(printable(row["class"]), shown(row["accuracy"]), shown(row["precision"]), str(row["support"]))
    return table


def _confused(report: dict[str, Any]) -> Table:
    table = Table(title="most frequent mistakes (all are in confusion.csv)", title_justify="left")
    for name in ("class", "told to be", "images"):
        table.add_column(name, justify="right" if name == "images" else "left")
    for label, best, times in most_confused(report)[:CONFUSED]:
        table.add_row(printable(label), printable(best), str(times))
    return table


def _counts(report: dict[str, Any]) -> str:
    text = (
        f"{count(report['images'], 'image')}, {count(report['classes'], 'class', 'classes')}; classes without images: "
    )
    return text + (", ".join(map(printable, report["classes_without_images"])) or "none")
