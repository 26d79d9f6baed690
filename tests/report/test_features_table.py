"""Students beside their teacher as a table."""

import io
from typing import Any

import pytest
from rich.console import Console

from lshfm.report.features import CAPTION, student_row, table, teacher_row

OLD: dict[str, Any] = {
    "mAP": 50.0,
    "mimicry": {"angle": 30.0, "relative_length": 0.5, "hash_agreement": 75.0, "teacher_mAP": 60.0},
}


def test_rows() -> None:
    new = OLD | {"mimicry": OLD["mimicry"] | {"hash_agreement_own_medians": 80.0}}
    expected = {"mAP": "50.00", "angle": "30.00", "length": "0.50", "hash agreement": "75.00", "own medians": "80.00"}
    assert student_row(new, "mAP") == expected
    assert student_row(OLD, "mAP") == expected | {"own medians": "-"}
    assert teacher_row(OLD, "mAP") == {
        "mAP": "60.00", "angle": "0.00", "length": "1.00", "hash agreement": "100.00", "own medians": "100.00"
    }  # fmt: skip


@pytest.mark.parametrize("name", ["teacher mobilenet_v2", "resnet8"])
def test_it_fits_80_columns_whole(name: str) -> None:
    out = io.StringIO()
    Console(file=out, width=80).print(table([(name, student_row(OLD, "mAP"))], "mAP"))
    rows = out.getvalue().splitlines()
    assert max(map(len, rows)) <= 80
    assert rows[5].replace(" ", "") == f"│{name.replace(' ', '')}│50.00│30.00│0.50│75.00│-│"
    assert all(len(line) <= 80 for line in CAPTION.splitlines())
