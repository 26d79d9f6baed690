"""The report for papers and scripts."""

import csv
import io
import json

from lshfm.report.arms import arms_of
from lshfm.report.blocks import Cell, Column, Table
from lshfm.report.formats import as_json, comma_separated, latex, markdown
from lshfm.report.tables_page import as_plain, comparison
from tests.report.facts import a_run, a_student

ARMS = arms_of([
    a_run("alone_s0", score=40.0, published=41.5), a_run("alone_s1", seed=1, score=42.0),
    a_student("l2", score=60.0, seed=0),
])  # fmt: skip


def test_mean_and_deviation_stand_in_a_booktabs_table() -> None:
    (table,) = comparison(ARMS, "a mean").blocks
    assert isinstance(table, Table)
    text = latex(table, "50 % of all")
    assert r"\toprule" in text
    assert r"resnet8 alone & 41.00 $\pm$ 1.41 & -- & 41.50 &" in text
    assert r"resnet8 mimicking, l2 & 60.00 & +19.00 & -- & 12.00 & 0.900 & 88.00" in text
    assert r"\caption{50 \% of all}" in text


def test_a_teacher_that_was_not_given_is_shown_as_its_students_measured_it() -> None:
    (table,) = comparison(ARMS, "").blocks
    assert isinstance(table, Table)
    assert [cell.text for cell in table.rows[0]][:3] == ["teacher resnet20", "70.00", "+29.00"]


def test_latex_and_markdown_take_hostile_names_as_text() -> None:
    name = r"a_b&c\input{/etc/passwd}|<script>[x](javascript:y)"
    table = Table("", [Column("n", is_number=False)], [[Cell(name)]])
    assert r"a\_b\&c\textbackslash{}input\{/etc/passwd\}" in latex(table, "")
    from lshfm.report.blocks import Section

    text = markdown("t", [Section("s", "s", [table])], ["_note_"])
    assert r"\<script\>\[x\](javascript:y)" in text
    assert r"\|\<script" in text  # the bar does not end the cell
    assert r"> \_note\_" in text


def test_csv_and_json_are_read_back() -> None:
    entries = as_plain(ARMS)
    rows = list(csv.DictReader(io.StringIO(comma_separated(entries))))
    assert [(row["network"], row["mean"], row["std"][:5]) for row in rows] == [
        ("resnet8 alone", "41.0", "1.414"),
        ("resnet8 mimicking, l2", "60.0", ""),
    ]
    assert json.loads(as_json(entries, [], []))["arms"][1]["hash_agreement"] == 88.0
    assert comma_separated([{"network": "=cmd()"}]) == "network\n'=cmd()\n"  # a spreadsheet would run it
