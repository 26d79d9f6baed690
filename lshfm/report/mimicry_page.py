"""Pictures of mimicking: direction and magnitude of student against teacher, before and after, and equal hash bits."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lshfm.report.arms import METHOD, STAGE1, Arm, drawn_of
from lshfm.report.blocks import Block, Picture, Pictures, Section, Text
from lshfm.report.facts import Run
from lshfm.report.figures import INK, MUTED, Panel, colour_of, dashes_of, legend_of

NAMES = {
    "angle": ("angle to the teacher's feature", "degrees"),
    "relative_length": ("length, student's / teacher's", "ratio"),
    "equal_bits": ("equal hash bits of an image", "share"),
}
OVER_EPOCHS = {"hash agreement": ("equal hash bits", "%"), "angle": ("mean angle", "degrees"),
               "length": ("mean relative length", "ratio")}  # fmt: skip
MOST_TOGETHER = 8  # arms whose distributions are drawn over each other
MOST_POINTS = 350  # of a cloud
BINS = 40


def section(arms: Sequence[Arm]) -> Section | None:
    """The section; None where no run has measured its student beside a teacher."""
    drawn = [arm for arm in arms if any("angle" in run.arrays or run.mimicry for run in arm.runs)]
    if not drawn:
        return None
    blocks: list[Block] = []
    curves = [picture for name in OVER_EPOCHS if (picture := _over_epochs(name, drawn))]
    if curves:
        blocks += [Text("Means over the evaluated images after every epoch; epoch 0 is the student before its first "
                        "step.", title="Over the epochs"),
                   Pictures(curves, legend_of([a for a in drawn if a.role in (METHOD, STAGE1)]))]  # fmt: skip
    few = drawn if len(drawn) <= MOST_TOGETHER else drawn_of([arm for arm in drawn if arm.role != STAGE1])
    spreads = [picture for name in NAMES if (picture := _distribution(name, few))]
    if spreads:
        blocks += [Text("Every evaluated image of the first seed. Dotted: the student before the first step of that "
                        "run.", title="Distributions"), Pictures(spreads, legend_of(few))]  # fmt: skip
    clouds = [picture for arm in drawn if (picture := _cloud(arm))]
    if clouds:
        words = "An image a point; at the cross (0 degrees, length 1) a student's feature is its teacher's."
        words += " Grey: before the run's first step."
        blocks += [Text(words, title="Magnitude against direction"), Pictures(clouds)]
    return Section("mimicking", "Mimicking", blocks) if blocks else None


def _first(arm: Arm, name: str) -> Run | None:
    """The first run of an arm with such values."""
    return next((run for run in arm.runs if len(_values(run.arrays, name))), None)


def _values(arrays: dict[str, NDArray[np.generic]], name: str) -> NDArray[np.float64]:
    """The values of the images that have one."""
    values = np.asarray(arrays.get(name, ()), np.float64)
    return values[np.isfinite(values)]


def _over_epochs(name: str, arms: Sequence[Arm]) -> Picture | None:
    title, unit = OVER_EPOCHS[name]
    panel, says = Panel(title, "epoch", unit), []
    for arm in (arm for arm in arms if arm.role in (METHOD, STAGE1)):
        for run in arm.runs:
            curve = run.curves.get(name)
            if curve:
                xs, ys = zip(*curve, strict=True)
                panel.axes.plot(xs, ys, color=colour_of(arm), linestyle=dashes_of(arm), marker="o", markersize=2.8)
                says.append(f"{arm.title} ends at {ys[-1]:.4g}")
    return panel.picture("; ".join(says[:12])) if says else None


def _distribution(name: str, arms: Sequence[Arm]) -> Picture | None:
    title, unit = NAMES[name]
    found = [(arm, run) for arm in arms if (run := _first(arm, name))]
    if not found:
        return None
    before = [_values(run.before, name) for _, run in found]
    everything = np.concatenate([*(_values(run.arrays, name) for _, run in found), *before])
    low, high = np.percentile(everything, [0.5, 99.5])
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    panel, says = Panel(title, unit, "share of images"), []
    for (arm, run), start in zip(found, before, strict=True):
        after = _values(run.arrays, name)
        panel.axes.stairs(_share(after, edges), edges, color=colour_of(arm), linestyle=dashes_of(arm), linewidth=1.6)
        if len(start):
            panel.axes.stairs(
                _share(start, edges), edges, color=colour_of(arm), linestyle=":", linewidth=1.1, alpha=0.8
            )
        moved = f" (before: {np.median(start):.3g})" if len(start) else ""
        says.append(f"{arm.title}: median {np.median(after):.3g}{moved}")
    return panel.picture("; ".join(says))


def _share(values: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0] / max(len(values), 1)


def _cloud(arm: Arm) -> Picture | None:
    run = _first(arm, "angle")
    if run is None:
        return None
    panel = Panel(arm.title, "angle in degrees", "relative length")
    for arrays, colour, alpha in ((run.before, MUTED, 0.28), (run.arrays, colour_of(arm), 0.45)):
        angle, length = (np.asarray(arrays.get(name, ()), np.float64) for name in ("angle", "relative_length"))
        if len(angle) != len(length) or not len(angle):
            continue
        known = np.flatnonzero(np.isfinite(angle) & np.isfinite(length))
        rows = known[:: max(len(known) // MOST_POINTS, 1)]
        panel.axes.plot(angle[rows], length[rows], "o", color=colour, alpha=alpha, markersize=2.6, markeredgewidth=0)
    panel.axes.plot([0], [1], "+", color=INK, markersize=9, markeredgewidth=1.4, clip_on=False, zorder=5)
    panel.axes.set_xlim(left=0)
    panel.axes.set_ylim(bottom=0)
    values = _values(run.arrays, "angle"), _values(run.arrays, "relative_length")
    return panel.picture(f"median angle {np.median(values[0]):.3g} degrees, length {np.median(values[1]):.3g}")
