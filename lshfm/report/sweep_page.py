"""Pictures of a sweep: the score over one key, a heat map of two, lines through all keys where there are more."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lshfm.report.arms import METHOD, OTHER, Arm, differing_settings, text_of
from lshfm.report.blocks import Block, Cell, Column, Picture, Pictures, Section, Table, Text, spread_cell
from lshfm.report.figures import COLOURS, INK, MUTED, PAPER, Panel, colour_of, legend_of, short

FEWEST = 2  # arms that make a sweep


def section(arms: Sequence[Arm]) -> Section | None:
    """The section; None where no two arms of a role differ in numbers or words that were swept."""
    blocks: list[Block] = []
    for scored in _groups(arms):
        keys = _swept(scored)
        if len(scored) < FEWEST or not keys:
            continue
        blocks.append(Text("", title=f"{scored[0].runs[0].network} {scored[0].runs[0].loss}".strip()))
        metric = scored[0].runs[0].metric
        if len(keys) == 1:
            blocks.append(Pictures([_over_one(keys[0], scored, metric)]))
        elif len(keys) == 2 and _is_grid(keys, scored):
            blocks.append(Pictures([_heat_map(keys, scored, metric)]))
        if len(keys) > 1:
            blocks.append(Pictures([_parallel(keys, scored, metric)], legend_of(scored)))
        blocks.append(_ranked(keys, scored, metric))
    intro = "Means over seeds; error bars are one standard deviation. Best first in the table."
    return Section("sweep", "Sweep", blocks, intro) if blocks else None


def _groups(arms: Sequence[Arm]) -> list[list[Arm]]:
    """The arms that have a score, those of a network and its losses together: methods side by side are no sweep."""
    groups: dict[tuple[str, str, str], list[Arm]] = {}
    for arm in arms:
        if arm.role in (METHOD, OTHER) and arm.score:
            groups.setdefault((arm.role, arm.runs[0].network, arm.runs[0].loss), []).append(arm)
    return list(groups.values())


def _swept(arms: Sequence[Arm]) -> list[str]:
    """The keys in which the arms differ, those that follow from others aside."""
    keys = differing_settings([arm.runs[0] for arm in arms]) if arms else []
    kept: list[str] = []
    for key in sorted(keys, key=lambda key: (key.startswith(("student.weights", "model.weights", "teacher")), key)):
        texts = [str(_setting(arm, key)) for arm in arms]
        is_digest = any(len(text) == 64 for text in texts)
        is_of_option = any(_setting(arm, key) is None for arm in arms)
        says_the_same = any(_same_parts(texts, [str(_setting(arm, other)) for arm in arms]) for other in kept)
        if not (is_digest or is_of_option or says_the_same or key.startswith("data.")):
            kept.append(key)
    return kept


def _same_parts(a: Sequence[str], b: Sequence[str]) -> bool:
    """Whether two keys tell the same arms apart."""
    return len(set(zip(a, b, strict=True))) == len(set(a)) == len(set(b))


def _setting(arm: Arm, key: str) -> Any:
    return arm.runs[0].settings.get(key)


def _values(key: str, arms: Sequence[Arm]) -> list[Any]:
    """A key's values in order: numbers by size, others as they come."""
    found = list({str(value): value for value in (_setting(arm, key) for arm in arms)}.values())
    return sorted(found) if all(isinstance(v, int | float) for v in found) else found


def _position(key: str, arm: Arm, values: Sequence[Any]) -> int:
    return [str(value) for value in values].index(str(_setting(arm, key)))


def _over_one(key: str, arms: Sequence[Arm], metric: str) -> Picture:
    values = _values(key, arms)
    panel = Panel(f"{metric} over {key}", key, metric)
    for arm in arms:
        assert arm.score
        panel.axes.errorbar([_position(key, arm, values)], [arm.score.mean], yerr=[arm.score.deviation or 0], fmt="o",
                            color=colour_of(arm), capsize=3)  # fmt: skip
    if all(isinstance(value, int | float) for value in values):
        means = [[a.score.mean for a in arms if a.score and _position(key, a, values) == i] for i in range(len(values))]
        panel.axes.plot(range(len(values)), [float(np.mean(m)) for m in means], color=MUTED, linewidth=1, zorder=0)
    panel.axes.set_xticks(range(len(values)), [short(text_of(value)) for value in values])
    panel.axes.set_xlim(-0.5, len(values) - 0.5)
    return panel.picture("; ".join(f"{arm.title}: {arm.score.mean:.2f}" for arm in arms if arm.score))


def _is_grid(keys: Sequence[str], arms: Sequence[Arm]) -> bool:
    """Whether every pair of values has at most one arm."""
    pairs = [tuple(str(_setting(arm, key)) for key in keys) for arm in arms]
    return len(set(pairs)) == len(pairs)


def _heat_map(keys: Sequence[str], arms: Sequence[Arm], metric: str) -> Picture:
    xs, ys = (_values(key, arms) for key in keys)
    panel = Panel(f"{metric} over {keys[0]} and {keys[1]}", keys[0], keys[1], height=max(2.4, 1.2 + 0.45 * len(ys)))
    scores = [arm.score.mean for arm in arms if arm.score]
    low, span = min(scores), max(max(scores) - min(scores), 1e-9)
    for arm in arms:
        assert arm.score
        x, y = _position(keys[0], arm, xs), _position(keys[1], arm, ys)
        share = (arm.score.mean - low) / span
        panel.axes.add_patch(_tile(x, y, 0.12 + 0.5 * share))
        deviation = "" if arm.score.deviation is None else f"\n±{arm.score.deviation:.2f}"
        panel.axes.text(x, y, f"{arm.score.mean:.2f}{deviation}", ha="center", va="center", color=INK,
                        fontweight="bold" if share == 1 else "normal")  # fmt: skip
    panel.axes.grid(visible=False)
    panel.axes.set_xticks(range(len(xs)), [short(text_of(value)) for value in xs])
    panel.axes.set_yticks(range(len(ys)), [short(text_of(value)) for value in ys])
    panel.axes.set_xlim(-0.5, len(xs) - 0.5)
    panel.axes.set_ylim(-0.5, len(ys) - 0.5)
    return panel.picture("; ".join(f"{arm.title}: {arm.score.mean:.2f}" for arm in arms if arm.score))


def _tile(x: int, y: int, alpha: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.48, y - 0.48), 0.96, 0.96, facecolor=COLOURS[0], alpha=alpha, edgecolor=PAPER)


def _parallel(keys: Sequence[str], arms: Sequence[Arm], metric: str) -> Picture:
    """A line an arm through its value of every key, and to its score."""
    panel = Panel(f"all keys and {metric}", width=max(4.4, 1.25 * (len(keys) + 1)), height=3.1)
    scores = [arm.score.mean for arm in arms if arm.score]
    low, span = min(scores), max(max(scores) - min(scores), 1e-9)
    values = {key: _values(key, arms) for key in keys}
    for arm in arms:
        assert arm.score
        at = [_position(key, arm, values[key]) / max(len(values[key]) - 1, 1) for key in keys]
        share = (arm.score.mean - low) / span
        panel.axes.plot([*range(len(keys)), len(keys)], [*at, share], color=colour_of(arm), marker="o", markersize=3,
                        alpha=0.45 + 0.55 * share)  # fmt: skip
    for column, key in enumerate(keys):
        for row, value in enumerate(values[key]):
            panel.axes.text(column + 0.04, row / max(len(values[key]) - 1, 1), short(text_of(value)), fontsize=8,
                            color=INK, va="bottom")  # fmt: skip
    for share, score in ((0, low), (1, low + span)):
        panel.axes.text(len(keys) + 0.04, share, f"{score:.2f}", fontsize=8, color=INK, va="bottom")
    panel.axes.set_xticks(range(len(keys) + 1), [*(short(key) for key in keys), short(metric)])
    panel.axes.set_yticks([])
    panel.axes.grid(visible=True, axis="x")
    panel.axes.set_xlim(-0.3, len(keys) + 0.6)
    return panel.picture()


def _ranked(keys: Sequence[str], arms: Sequence[Arm], metric: str) -> Table:
    best = sorted(arms, key=lambda arm: -(arm.score.mean if arm.score else 0))
    columns = [
        Column("rank", is_number=False),
        Column("network", is_number=False),
        *(Column(key) for key in keys),
        Column(metric),
    ]
    rows = [
        [Cell(str(rank), float(rank)), Cell(arm.title, arm.title, arm.colour),
         *(_setting_cell(_setting(arm, key)) for key in keys), spread_cell(arm.score)]
        for rank, arm in enumerate(best, 1)
    ]  # fmt: skip
    return Table("best first", columns, rows)


def _setting_cell(value: Any) -> Cell:
    return Cell(text_of(value), value if isinstance(value, int | float) else str(value))
