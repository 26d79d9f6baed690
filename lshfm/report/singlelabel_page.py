"""A report's sections on single-label classification: all metrics, accuracy by class, what is taken for what."""

from collections.abc import Sequence
from typing import Any

from lshfm.metrics.singlelabel import BINS, DEFINITIONS
from lshfm.report import confusion_page
from lshfm.report.arms import Arm
from lshfm.report.blocks import Cell, Column, Section, Table, spread_cell
from lshfm.report.classes_page import by_class
from lshfm.report.facts import Run

MEASURES = {
    "top1": ("top-1, %", 2), "top5": ("top-5, %", 2), "mean_class_accuracy": ("mean of the classes, %", 2),
    "nll": ("NLL, nats", 3), "ece": ("ECE, %", 2),
}  # fmt: skip
INTRO = (
    f"Means and standard deviations over seeds. Top-1: {DEFINITIONS['top1']}; top-5: {DEFINITIONS['top5']}; NLL: mean "
    f"of -log p of the label; ECE: gap between confidence and accuracy over {BINS} bins. Of NLL and ECE less is better."
)
BY_CLASS = "Top-1 of each class's images, in percent"


def sections(arms: Sequence[Arm]) -> list[Section]:
    """Every metric of each arm, accuracy by class, confusions; what no run tells is left out."""
    accuracy = by_class(arms, accuracies, "accuracy", "accuracy", BY_CLASS, is_sorted=True)
    return [section for section in (_measures(arms), accuracy, confusion_page.section(arms)) if section]


def _measures(arms: Sequence[Arm]) -> Section | None:
    told = [arm for arm in arms if any(arm.spread(lambda run, key=key: run.report.get(key)) for key in MEASURES)]  # type: ignore[misc]
    if not told:
        return None
    columns = [Column("network", is_number=False), *(Column(title) for title, _ in MEASURES.values())]
    rows = [
        [Cell(arm.title, arm.title, arm.colour),
         *(spread_cell(arm.spread(lambda run, key=key: run.report.get(key)), digits)  # type: ignore[misc]
           for key, (_, digits) in MEASURES.items())]
        for arm in told
    ]  # fmt: skip
    return Section("measures", "Accuracy and calibration", [Table("all metrics", columns, rows)], INTRO)


def accuracies(run: Run) -> dict[str, Any]:
    """The share of each class's images that are told right, in percent; None of a class without images."""
    rows = run.report.get("per_class")
    found = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return {row["class"]: row.get("accuracy") for row in found if isinstance(row.get("class"), str)}
