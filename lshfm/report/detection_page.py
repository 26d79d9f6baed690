"""A report's sections on detection: AP by class, precision over recall, and what is wrong with detections."""

from collections.abc import Sequence
from typing import Any

from lshfm.report.arms import Arm, Spread
from lshfm.report.blocks import Cell, Column, Section, Table, spread_cell
from lshfm.report.facts import Run
from lshfm.report.multilabel_page import by_class
from lshfm.report.precision_page import BoxesOf, precision_section

NOT_KINDS = ("score", "objects")


def sections(arms: Sequence[Arm], boxes_of: BoxesOf) -> list[Section]:
    """AP by class with differences, precision over recall, the kinds of errors; what no run tells is left out."""
    return [section for section in (by_class(arms), precision_section(arms, boxes_of), _errors(arms)) if section]


def _errors(arms: Sequence[Arm]) -> Section | None:
    told = [arm for arm in arms if any(_counts(run) for run in arm.finished)]
    if not told:
        return None
    first = next(_counts(run) for run in told[0].finished if _counts(run))
    kinds = [name for name in first if name not in NOT_KINDS]
    rows = [
        [Cell(arm.title), *(_number_of(arm.spread(lambda run, kind=kind: _counts(run).get(kind))) for kind in kinds)]  # type: ignore[misc]
        for arm in told
    ]
    table = Table("Detections by kind, and objects missed", [Column("network", False), *map(Column, kinds)], rows)
    return Section(
        "errors", "Errors", [table],
        f"Detections with a score of at least {first['score']:g} on {first['objects']} objects. Double: the object is "
        "found already; wrong class: an object of another class lies there; badly placed: on the object, but not with "
        "half of its area; nothing there: none of these.",
    )  # fmt: skip


def _number_of(spread: Spread | None) -> Cell:
    """A number of detections: a whole one, or a mean over seeds."""
    return spread_cell(spread, 0 if spread and spread.number == 1 else 1)


def _counts(run: Run) -> dict[str, Any]:
    found = run.report.get("errors")
    return found if isinstance(found, dict) and "score" in found and "objects" in found else {}
