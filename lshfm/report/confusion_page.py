"""A report's section on what the best network takes for what: the matrix, and the most frequent mistakes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lshfm.report.arms import Arm, best_of, reference_of
from lshfm.report.blocks import Block, Cell, Column, Picture, Pictures, Section, Table, number
from lshfm.report.facts import Run
from lshfm.report.figures import INK, Panel, short

DRAWN, NAMED, NUMBERED = 200, 24, 12  # most classes of a matrix that is drawn, has names, has numbers
LISTED, SAID = 20, 5  # mistakes in the table, and in words beside the matrix
RIGHT, WRONG, STRONGEST = (0.13, 0.6, 0.33), (0.88, 0.36, 0.1), 0.85  # on light and dark paper; opacity of all images
SIDE, SIDE_NAMED = 4.4, 5.6  # inches, without and with names

Counts = NDArray[np.int64]


def section(arms: Sequence[Arm]) -> Section | None:
    """The section, of the best arm's first run that tells its confusions; None without one."""
    told = [arm for arm in arms if _first(arm)]
    best = best_of(told)
    run = _first(best) if best else None
    if best is None or run is None:
        return None
    names, entries = _names(run), _entries(run)
    mistakes = _most_frequent(entries)
    blocks: list[Block] = []
    if len(names) <= DRAWN:
        blocks.append(Pictures([_matrix(best.title, names, entries, mistakes)]))
    if len(mistakes):
        blocks.append(_table(run, mistakes, _beside(reference_of(told), best, names)))
    seed = "" if run.seed is None else f" (seed {run.seed})"
    return Section("confusion", "Confusion", blocks, f"Of {best.title}{seed}.{_legend(len(names))}") if blocks else None


def _legend(classes: int) -> str:
    """What the matrix shows, in words."""
    if classes > DRAWN:
        return f" The {LISTED} most frequent mistakes; confusion.csv in the run's folder has all of {classes} classes."
    axes = "" if classes <= NAMED else " Numbers at the axes are places in the list of classes, from 0."
    cells = " Numbers are percent of the row's images." if classes <= NUMBERED else ""
    return (
        " A row has the images of one class, a column those that are told to be it; green is right, orange wrong, and "
        f"the stronger the larger its share of the row.{cells}{axes} confusion.csv in the run's folder has the numbers."
    )


def _first(arm: Arm) -> Run | None:
    return next((run for run in arm.finished if len(_entries(run))), None)


def _names(run: Run) -> list[str]:
    rows = run.report.get("per_class")
    return [str(row.get("class")) for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _entries(run: Run) -> Counts:
    """(m, 3): class, what it is told to be, images; without rows where a run does not tell, or tells nonsense."""
    none = np.zeros((0, 3), np.int64)
    try:
        entries: NDArray[Any] = np.array(run.report.get("confusion"))
    except ValueError:
        return none
    if entries.ndim != 2 or entries.shape[1] != 3 or entries.dtype.kind != "i":
        return none
    is_known = (entries >= 0).all() and (entries[:, :2] < len(_names(run))).all()
    return entries if is_known else none


def _most_frequent(entries: Counts) -> Counts:
    wrong = entries[entries[:, 0] != entries[:, 1]]
    most: Counts = wrong[np.argsort(-wrong[:, 2], kind="stable")][:LISTED]
    return most


def _beside(reference: Arm | None, best: Arm, names: Sequence[str]) -> tuple[str, dict[tuple[int, int], int]] | None:
    """The reference's title and how often it takes what for what, if it has the same classes."""
    run = _first(reference) if reference and reference != best else None
    if reference is None or run is None or _names(run) != list(names):
        return None
    return reference.title, {(label, told): times for label, told, times in _entries(run).tolist()}


def _table(run: Run, mistakes: Counts, beside: tuple[str, dict[tuple[int, int], int]] | None) -> Table:
    names, entries = _names(run), _entries(run)
    images = np.bincount(entries[:, 0], entries[:, 2], len(names))
    columns = [Column("class", is_number=False), Column("told to be", is_number=False), Column("images"),
               Column("of the class, %"), *([Column("images", hint=f"by {beside[0]}")] if beside else [])]  # fmt: skip
    rows = [
        [Cell(names[label]), Cell(names[told]), number(times, 0), number(100 * times / max(images[label], 1), 1),
         *([number(beside[1].get((label, told), 0), 0)] if beside else [])]
        for label, told, times in mistakes.tolist()
    ]  # fmt: skip
    return Table("most frequent mistakes", columns, rows)


def shares_of(entries: Counts, classes: int) -> NDArray[np.float64]:
    """(C, C): the share of each class's images (row) that are told to be each class (column)."""
    matrix = np.zeros((classes, classes))
    matrix[entries[:, 0], entries[:, 1]] = entries[:, 2]
    matrix /= np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    return matrix


def _matrix(title: str, names: Sequence[str], entries: Counts, mistakes: Counts) -> Picture:
    shares, classes = shares_of(entries, len(names)), len(names)
    colours = np.where(np.eye(classes, dtype=bool)[:, :, None], RIGHT, WRONG)
    opacity = STRONGEST * np.sqrt(shares)[:, :, None]  # by the root, so that rare mistakes are seen
    side = SIDE_NAMED if classes <= NAMED else SIDE
    panel = Panel(f"confusions of {title}", "told to be", "class", width=side, height=side)
    panel.axes.imshow(np.concatenate([colours, opacity], axis=2), interpolation="none")
    panel.axes.grid(visible=False)
    if classes <= NAMED:
        _name(panel, names)
    if classes <= NUMBERED:
        _number(panel, shares)
    words = (f"{names[label]} told to be {names[told]}: {times}" for label, told, times in mistakes[:SAID].tolist())
    return panel.picture("; ".join(words))


def _name(panel: Panel, names: Sequence[str]) -> None:
    panel.axes.set_xticks(range(len(names)), [short(name) for name in names], rotation=90)
    panel.axes.set_yticks(range(len(names)), [short(name) for name in names])
    panel.axes.tick_params(length=0)


def _number(panel: Panel, shares: NDArray[np.float64]) -> None:
    for row, column in np.argwhere(shares > 0).tolist():
        text = f"{100 * shares[row, column]:.0f}"
        panel.axes.text(column, row, text, ha="center", va="center", fontsize=8, color=INK)
