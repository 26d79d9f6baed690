"""The tables of an evaluation show every class's precision, recall, F1 and support."""

import io

import numpy as np
from rich.console import Console

from lshfm.metrics.multilabel import measure
from lshfm.report.multilabel import tables


def test_a_row_a_class() -> None:
    logits = np.array([[1, -1, 1], [1, 1, -1], [-1, -1, -1]], np.float32)
    labels = np.array([[1, 1, -1], [-1, 1, 0], [1, -1, -1]], np.int8)
    console = Console(file=io.StringIO(), width=80)
    console.print(tables(measure(logits, labels, ["red star", "blue", "none"], "voc2010")))
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    start = lines.index("a class at p >= 0.5")
    rows = [[cell.strip() for cell in line.strip("│┃ ").replace("┃", "│").split("│")] for line in lines[start:]]
    assert rows[2] == ["class", "precision", "recall", "F1", "support"]
    assert rows[4:7] == [
        ["red star", "50.00", "50.00", "50.00", "2"],
        ["blue", "100.00", "50.00", "66.67", "2"],
        ["none", "undefined", "undefined", "undefined", "0"],
    ]
