"""Images on which two networks differ most."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lshfm.report.arms import Arm, best_of, reference_of
from lshfm.report.facts import Run

SHOWN = 6  # gains, and as many losses


@dataclass(frozen=True)
class Pair:
    """Two runs whose outputs are of the same images: what the second gains on the first is shown."""

    first: Arm
    second: Arm
    runs: tuple[Run, Run]
    rows: NDArray[np.int64]  # (m, 2), of the same images


def pair_of(arms: Sequence[Arm]) -> Pair | None:
    """The student alone, or what else others are compared with, and the best method; None without two such."""
    first = reference_of(arms)
    others = [arm for arm in arms if first and arm != first and arm.score and _with_outputs(arm)]
    second = best_of(others)
    if first is None or second is None or _with_outputs(first) is None:
        return None
    runs = _of_the_same_seed(first, second)
    rows = _same_images(*runs)
    return Pair(first, second, runs, rows) if len(rows) else None


def _with_outputs(arm: Arm) -> Run | None:
    return next((run for run in arm.finished if _is_whole(run)), None)


def _is_whole(run: Run) -> bool:
    """Whether a run left ids, outputs (n, C) and targets; damaged ones show nothing."""
    ids, logits, targets = (run.arrays.get(name) for name in ("ids", "logits", "targets"))
    if ids is None or logits is None or targets is None:
        return False
    return ids.ndim == 1 and logits.ndim == 2 and logits.dtype.kind == "f" and logits.shape[1] == len(run.classes)


def _of_the_same_seed(first: Arm, second: Arm) -> tuple[Run, Run]:
    pairs = [(a, b) for a in first.finished for b in second.finished
             if a.seed == b.seed and _is_whole(a) and _is_whole(b)]  # fmt: skip
    one, other = _with_outputs(first), _with_outputs(second)
    assert one
    assert other
    return pairs[0] if pairs else (one, other)


def _same_images(first: Run, second: Run) -> NDArray[np.int64]:
    _, a, b = np.intersect1d(first.arrays["ids"], second.arrays["ids"], assume_unique=False, return_indices=True)
    same = first.classes == second.classes and first.arrays["logits"].shape[1:] == second.arrays["logits"].shape[1:]
    return np.stack([a, b], axis=1) if same else np.zeros((0, 2), np.int64)


def largest(gains: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows of the largest gains and of the largest losses, the most extreme first."""
    order = np.argsort(-gains, kind="stable")
    up, down = order[gains[order] > 0][:SHOWN], order[::-1][gains[order[::-1]] < 0][:SHOWN]
    return up, down
