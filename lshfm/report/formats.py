"""The comparison for papers and scripts: Markdown, CSV, JSON, LaTeX; made of the sections of the page."""

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from lshfm.errors import printable
from lshfm.report.blocks import Cell, Section, Table, Text

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "Δ": r"$\Delta$", "±": r"$\pm$", "–": "--",
}  # fmt: skip
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~$!&])")


def markdown(title: str, sections: Sequence[Section], notes: Sequence[str]) -> str:
    """All tables and texts under headings."""
    lines = [f"# {_md(title)}", "", *(f"> {_md(note)}" for note in notes), ""]
    for section in sections:
        lines += [f"## {_md(section.title)}", "", *([_md(section.intro), ""] if section.intro else [])]
        for block in section.blocks:
            if isinstance(block, Table):
                lines += [*_md_table(block), ""]
            elif isinstance(block, Text) and block.is_code:
                lines += [f"**{_md(block.title)}**", "", f"    {printable(block.text)}", ""]
    return "\n".join(lines)


def _md_table(table: Table) -> list[str]:
    heads = [f"{column.title}{f' ({column.hint})' if column.hint else ''}" for column in table.columns]
    rule = ["---:" if column.is_number else "---" for column in table.columns]
    rows = [_line([_md(head) for head in heads]), _line(rule)]
    return rows + [_line([_md(_text(cell)) for cell in row]) for row in table.rows]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _text(cell: Cell) -> str:
    return f"{cell.text} ({cell.hint})" if cell.hint else cell.text


def _md(text: str) -> str:
    """A text that Markdown takes as it is: neither markup nor HTML."""
    return _MARKDOWN.sub(r"\\\1", printable(text))


def comma_separated(entries: Sequence[Mapping[str, Any]]) -> str:
    """A row an arm; what begins like a spreadsheet's formula gets an apostrophe in front."""
    written = io.StringIO()
    table = csv.DictWriter(written, list(entries[0]) if entries else [], lineterminator="\n")
    table.writeheader()
    for entry in entries:
        table.writerow({name: _csv(value) for name, value in entry.items()})
    return written.getvalue()


def _csv(value: Any) -> Any:
    if isinstance(value, list):
        return " ".join("" if item is None else str(item) for item in value)
    if isinstance(value, str):
        text = printable(value)
        return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t")) else text
    return value


def as_json(entries: Sequence[Mapping[str, Any]], runs: Sequence[Mapping[str, Any]], notes: Sequence[str]) -> str:
    """The arms, and the runs with what is missing of them."""
    return json.dumps({"version": 1, "arms": list(entries), "runs": list(runs), "notes": list(notes)}, indent=1) + "\n"


def latex(table: Table, caption: str) -> str:
    r"""A booktabs table; the preamble needs \usepackage{booktabs}."""
    kinds = "".join("r" if column.is_number else "l" for column in table.columns)
    lines = [
        r"% needs \usepackage{booktabs}", r"\begin{table}", r"\centering", rf"\caption{{{_tex(caption)}}}",
        rf"\begin{{tabular}}{{{kinds}}}", r"\toprule",
        _tex_row([column.title for column in table.columns]), r"\midrule",
        *(_tex_row([cell.text for cell in row]) for row in table.rows),
        r"\bottomrule", r"\end{tabular}", r"\end{table}", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _tex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(_tex, cells)) + r" \\"


def _tex(text: str) -> str:
    return "".join(_LATEX.get(char, char) for char in printable(text))
