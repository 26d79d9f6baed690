"""The lines of a run as curves over its epochs."""

from collections.abc import Sequence

import numpy as np

from lshfm.engine.lines import Line, StepLine
from lshfm.report.facts import Arrays, Curve

MOST_POINTS = 300  # of a curve


def curves_of(lines: Sequence[Line]) -> tuple[dict[str, Curve], tuple[str, ...], tuple[str, ...]]:
    """The lines as curves over the epochs done, and which of them are losses, and which lie beside the score."""
    curves: dict[str, Curve] = {}
    losses: dict[str, None] = {}
    beside: dict[str, None] = {}
    last_steps = {line.epoch: line.step for line in lines if isinstance(line, StepLine)}
    steps = max(last_steps.values(), default=1)
    for line in lines:
        if isinstance(line, StepLine):
            done = line.epoch - 1 + min(line.step / max(steps, 1), 1.0)
            losses |= dict.fromkeys(line.losses)
            values: dict[str, float | None] = {
                **line.losses,
                "lr": line.lr,
                "images_per_second": line.images_per_second,
            }
        else:
            done = float(line.epoch)
            beside |= dict.fromkeys(line.beside)
            values = {"score": line.score, "validation_loss": line.validation_loss, **line.beside}
            if line.metric not in values and line.metric == "hash agreement":
                values[line.metric] = line.score
        for name, value in values.items():
            if isinstance(value, int | float) and np.isfinite(value):
                curves.setdefault(name, []).append((done, float(value)))
    return {name: _thinned(curve) for name, curve in curves.items()}, tuple(losses), tuple(beside)


def _thinned(curve: Curve) -> Curve:
    """At most so many points: means of as many neighbours each."""
    if len(curve) <= MOST_POINTS:
        return curve
    parts = np.array_split(np.array(curve), MOST_POINTS)
    return [(float(part[-1, 0]), float(part[:, 1].mean())) for part in parts]


def start_at_zero(curves: dict[str, Curve], before: Arrays) -> None:
    """Put the means of the student before its first step at epoch 0."""
    names = {"angle": ("angle", 1), "length": ("relative_length", 1), "hash agreement": ("equal_bits", 100)}
    for name, (key, factor) in names.items():
        values = np.asarray(before.get(key, ()), np.float64)
        if curves.get(name) and len(values) and np.isfinite(values).any():
            curves[name].insert(0, (0.0, float(factor * np.nanmean(values))))
