"""Tables of a detector's evaluation for the console."""

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from lshfm.console import shown
from lshfm.errors import printable
from lshfm.metrics.detection import DEFINITIONS


def tables(report: dict[str, Any]) -> RenderableType:
    """The AP of each class under every definition with the means, COCO's numbers, and what the definitions are."""
    return Group(
        _classes(report),
        _coco(report),
        _errors(report["errors"]),
        *(f"{name}: {text}" for name, text in DEFINITIONS.items()),
    )


def _classes(report: dict[str, Any]) -> Table:
    title = f"{report['images']} images, {report['detections']} detections; average precision in percent, see below"
    table = Table(title=title, title_justify="left")
    table.add_column("class")
    for name in (*DEFINITIONS, "objects", "difficult"):
        table.add_column(name.replace("_", " "), justify="right")
    for label, row in report["ap"].items():
        figures = (_figure(row[name]) for name in DEFINITIONS)
        table.add_row(printable(label), *figures, str(report["objects"][label]), str(report["difficult"][label]))
    table.add_section()
    table.add_row("mean", *(shown(report[name]) for name in DEFINITIONS), "", "", style="bold")
    return table


def _coco(report: dict[str, Any]) -> Table:
    table = Table(
        title="COCOeval, difficult objects taken out; AR: recall with so many detections", title_justify="left"
    )
    for name in ("", "small", "medium", "large"):
        table.add_column(name or "all", justify="right")
    for kind, best in (("AP", "AP"), ("AR", "AR100")):
        row = [best, *(f"{kind}_{size}" for size in ("small", "medium", "large"))]
        table.add_row(*(f"{name} {_figure(report['coco'][name])}" for name in row))
    others = ("AP50", "AP75", "AR1", "AR10")
    table.add_row(*(f"{name} {_figure(report['coco'][name])}" for name in others))
    return table


def _errors(errors: dict[str, Any]) -> Table:
    title = f"detections of score {errors['score']:g} and more, by what is wrong with them; objects that none finds"
    table = Table(title=title, title_justify="left")
    names = [name for name in errors if name not in ("score", "objects")]
    for name in names:
        table.add_column(name, justify="right")
    table.add_row(
        *(f"{errors[name]} of {errors['objects']}" if name == "missed" else str(errors[name]) for name in names)
    )
    return table


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
