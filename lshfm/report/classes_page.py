"""A report's section on the classes: a measure of each, arms side by side, with differences."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from lshfm.report.arms import Arm, Spread, best_of, drawn_of, reference_of
from lshfm.report.blocks import Block, Cell, Column, Picture, Pictures, Section, Table, spread_cell
from lshfm.report.facts import Run
from lshfm.report.figures import MUTED, Panel, colour_of, legend_of, short

LISTED, DRAWN = 100, 30  # classes in the table and in a drawing, where they are sorted; of more the two ends

Means = dict[str, dict[str, Spread | None]]


def by_class(
    arms: Sequence[Arm], values: Callable[[Run], dict[str, Any]], measure: str, letters: str, says: str, *,
    is_sorted: bool = False,
) -> Section | None:  # fmt: skip
    """A measure of each class in percent, called `measure`, in drawings `letters`; None where no run tells it.

    values: of a run, by class. says: what they are. is_sorted: the largest gain of the best arm first, and of many
    classes both ends alone.
    """
    scored = [arm for arm in arms if any(values(run) for run in arm.finished)]
    if not scored:
        return None
    classes = list(dict.fromkeys(name for arm in scored for run in arm.finished for name in values(run)))
    means = {arm.title: {name: arm.spread(lambda run, name=name: values(run).get(name)) for name in classes}  # type: ignore[misc]
             for arm in scored}  # fmt: skip
    reference = next((arm for arm in scored if arm == reference_of(scored)), None)
    listed, shown, order = classes, classes, ""
    if is_sorted:
        best = best_of([arm for arm in scored if arm != reference])
        classes, known = _by_gain(best, reference, means, classes)
        listed, shown = _ends(classes, known, LISTED), _ends(classes, known, DRAWN)
        order = f"; the largest gain of {best.title} first" if best and reference else "; the least first"
    drawn = drawn_of(scored)
    pictures = [_dots(f"{letters} by class", drawn, means, shown)]
    if reference:
        pictures.append(_differences([a for a in drawn if a != reference], reference, means, shown))
    table = _table(f"{measure} by class, in percent", scored, reference, means, listed)
    blocks: list[Block] = [Pictures(pictures, legend_of(drawn)), table]
    beside = f" Differences are to {reference.title}." if reference else ""
    few = "" if len(drawn) == len(scored) else f" Drawn: the {len(drawn)} best of {len(scored)}."
    if len(shown) < len(classes):
        few += (
            f" Of {len(classes)} classes {len(shown)} are drawn and {len(listed)} listed, from both ends of the order."
        )
    return Section(
        "classes", f"{measure} by class".capitalize(), blocks,
        f"{says}; means over seeds, bars of one standard deviation{order}.{beside}{few}",
    )  # fmt: skip


def _by_gain(best: Arm | None, reference: Arm | None, means: Means, classes: Sequence[str]) -> tuple[list[str], int]:
    """The classes, the largest gain first, of one arm the least first, and so many whose values are known."""

    def place(name: str) -> float:
        ours = means[best.title][name] if best else None
        theirs = means[reference.title][name] if reference else None
        if ours is None or (reference and theirs is None):
            return math.inf
        return theirs.mean - ours.mean if theirs else ours.mean

    return sorted(classes, key=place), sum(place(name) < math.inf for name in classes)


def _ends(names: list[str], known: int, most: int) -> list[str]:
    """The names; of more than `most` so many of the known ones, from both ends."""
    if len(names) <= most:
        return names
    return names[:known] if known <= most else [*names[: most // 2], *names[known - most // 2 : known]]


def _dots(title: str, arms: Sequence[Arm], means: Means, classes: Sequence[str]) -> Picture:
    panel = Panel(title, "%", height=_height(len(classes), 0.27))
    for number, arm in enumerate(arms):
        offset = 0.5 * ((number + 0.5) / len(arms) - 0.5)
        known = [(row, spread) for row, name in enumerate(classes) if (spread := means[arm.title][name])]
        panel.axes.errorbar(
            [spread.mean for _, spread in known], [row + offset for row, _ in known],
            xerr=[spread.deviation or 0 for _, spread in known], fmt="o", markersize=4, elinewidth=1,
            color=colour_of(arm),
        )  # fmt: skip
    _name_rows(panel, classes)
    return panel.picture("the table below has the numbers")


def _differences(others: Sequence[Arm], reference: Arm, means: Means, classes: Sequence[str]) -> Picture:
    panel = Panel(f"difference to {reference.title}", "percent points", height=_height(len(classes), 0.27))
    thickness = 0.78 / max(len(others), 1)
    for number, arm in enumerate(others):
        rows, gains = [], []
        for row, name in enumerate(classes):
            ours, theirs = means[arm.title][name], means[reference.title][name]
            if ours and theirs:
                rows.append(row + (number - (len(others) - 1) / 2) * thickness)
                gains.append(ours.mean - theirs.mean)
        panel.axes.barh(rows, gains, height=thickness * 0.9, color=colour_of(arm))
    panel.axes.axvline(0, color=MUTED, linewidth=0.9)
    _name_rows(panel, classes)
    return panel.picture("the table below has the numbers")


def _height(rows: int, each: float) -> float:
    return max(1.0 + rows * each, 2.2)


def _name_rows(panel: Panel, classes: Sequence[str]) -> None:
    panel.axes.set_yticks(range(len(classes)), [short(name) for name in classes])
    panel.axes.set_ylim(len(classes) - 0.4, -0.6)
    panel.axes.tick_params(axis="y", length=0)


def _table(caption: str, arms: Sequence[Arm], reference: Arm | None, means: Means, classes: Sequence[str]) -> Table:
    columns = [Column("class", is_number=False), *(Column(arm.title) for arm in arms)]
    others = [arm for arm in arms if reference and arm != reference]
    columns += [Column(f"Δ {arm.title}") for arm in others]
    rows = []
    for name in classes:
        row = [Cell(name), *(spread_cell(means[arm.title][name]) for arm in arms)]
        for arm in others:
            assert reference
            ours, theirs = means[arm.title][name], means[reference.title][name]
            gain = ours.mean - theirs.mean if ours and theirs else None
            row.append(Cell("–") if gain is None else Cell(f"{gain:+.2f}", gain))
        rows.append(row)
    return Table(caption, columns, rows)
