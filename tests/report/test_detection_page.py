"""A report's sections on detection, and the tables on the console."""

from typing import Any

import numpy as np
import pytest
from rich.console import Console

from lshfm.metrics.boxes import Found, Truth
from lshfm.metrics.detection import measure
from lshfm.report import detection
from lshfm.report.arms import arms_of
from lshfm.report.blocks import Table
from lshfm.report.facts import FINISHED, Run


def report(score: float) -> dict[str, Any]:
    """One cat found, one dog not."""
    box = np.array([[0.0, 0, 10, 10]])
    truth = Truth(
        np.array([0, 1]), np.array([0, 1]), np.repeat(box, 2, 0), np.zeros(2, bool), np.zeros(2, bool), np.ones(2)
    )
    found = Found(np.array([0]), np.array([0]), box, np.array([score]))
    return measure(truth, found, 2, ["cat", "dog"], "voc2007")


def test_ap_by_class_and_errors_by_kind() -> None:
    pytest.importorskip("matplotlib")
    from lshfm.report.detection_page import sections

    about = {"command": "train", "state": FINISHED, "dataset": "voc07"}
    runs = [Run(name=n, folder=n, network=n, report=report(s), **about) for n, s in (("a", 0.9), ("b", 0.4))]
    by_class, errors = sections(arms_of(runs), lambda _: None)
    assert by_class.title == "Average precision by class"
    (table,) = errors.blocks
    assert isinstance(table, Table)
    cells = {row[0].text: [cell.text for cell in row[1:]] for row in table.rows}
    titles = [column.title for column in table.columns[1:]]
    assert dict(zip(titles, cells["a"], strict=True))["right"] == "1"
    assert dict(zip(titles, cells["b"], strict=True))["missed"] == "2"


def test_runs_without_errors_have_no_section() -> None:
    pytest.importorskip("matplotlib")
    from lshfm.report.detection_page import sections

    assert sections(arms_of([Run(name="a", folder="a", command="train", state=FINISHED)]), lambda _: None) == []


def test_tables_of_an_evaluation(capsys: pytest.CaptureFixture[str]) -> None:
    """Every figure beside its definition, in 100 columns."""
    Console(width=100).print(detection.tables(report(0.9)))
    text = capsys.readouterr().out
    assert "│ cat" in text
    assert "100.00" in text
    assert "AP50 50.00" in text
    assert "1 of 2" in text
    assert "voc2007: the VOC2007 devkit's" in text
