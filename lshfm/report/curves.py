"""Training curves: losses, learning rate, metric and images a second over the epochs, a line a run."""

from collections.abc import Sequence

from lshfm.report.arms import Arm
from lshfm.report.blocks import Block, Picture, Pictures, Section
from lshfm.report.facts import Run
from lshfm.report.figures import Panel, colour_of, dashes_of, legend_of

NAMES = {"lr": "learning rate", "images_per_second": "images a second", "validation_loss": "loss on validation data"}


def section(arms: Sequence[Arm]) -> Section | None:
    """The section; None without a curve of two points."""
    drawn = [arm for arm in arms if any(_is_drawn(run) for run in arm.runs)]
    if not drawn:
        return None
    losses = list(dict.fromkeys(name for arm in drawn for run in arm.runs for name in run.losses))
    pictures = [picture for name in ["score", *losses, *NAMES] if (picture := _panel(name, drawn, name in losses))]
    blocks: list[Block] = [Pictures(pictures, legend_of(drawn))]
    return Section(
        "curves", "Training curves", blocks,
        "A line a run; runs of one colour differ in their seed. Losses are the parts of the total, factors included.",
    )  # fmt: skip


def _is_drawn(run: Run) -> bool:
    return any(len(curve) > 1 for curve in run.curves.values())


def _panel(name: str, arms: Sequence[Arm], is_loss: bool) -> Picture | None:
    """One quantity of all runs; None where no run has it."""
    lines = [(arm, run.curves[name]) for arm in arms for run in arm.runs if run.curves.get(name)]
    if name == "score":
        lines = [(arm, curve) for arm, curve in lines if not arm.dashed]  # stage 1 measures something else
    if not lines:
        return None
    metrics = list(dict.fromkeys(run.metric for arm in arms if not arm.dashed for run in arm.runs if run.metric))
    titles = {"score": ", ".join(metrics)} | NAMES
    panel = Panel(titles.get(name, f"loss: {name}"), "epoch")
    for arm, curve in lines:
        xs, ys = zip(*curve, strict=True)
        style = {"color": colour_of(arm), "linestyle": dashes_of(arm), "alpha": 0.9}
        panel.axes.plot(xs, ys, marker="o" if len(xs) < 3 else None, markersize=3.5, **style)
    values = [y for _, curve in lines for _, y in curve]
    if is_loss and min(values) > 0 and max(values) / min(values) > 50:
        panel.axes.set_yscale("log")
    elif min(values) >= 0 and name in ("lr", "images_per_second"):
        panel.axes.set_ylim(bottom=0)
    ends = "; ".join(f"{arm.title} ends at {curve[-1][1]:.4g}" for arm, curve in lines[:12])
    return panel.picture(ends)
