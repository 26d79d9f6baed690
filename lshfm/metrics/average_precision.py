"""Average precision of one class, under the three definitions in use for multi-label sets.

Images are ranked by score, best first; ties keep the order of the samples. A label is +1 (present), -1
(absent) or 0 (only difficult objects), and an image labelled 0 is left out of the ranking: neither hit nor
miss. Scores are fp32 logits, because fp32 sigmoids of large logits are all 1 and lose the order.

With P positives, all three definitions depend on the precisions at the P hits alone: between two hits
precision only falls, so its maximum over any range of recall lies on a hit.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Precisions = NDArray[np.float64]  # (P,) precision at each hit, best ranked first


def precision_at_hits(scores: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]]) -> Precisions:
    """The precision at the rank of each positive of one class, best ranked first: (n,), (n,) -> (P,)."""
    counted = labels != 0
    order = np.argsort(-scores[counted], kind="stable")
    ranks = np.flatnonzero(labels[counted][order] > 0) + 1
    return np.arange(1, len(ranks) + 1) / ranks


@dataclass(frozen=True)
class Definition:
    """A definition of average precision, a fraction in [0, 1]; nan for a class without positives."""

    summary: Callable[[Precisions], float]

    def __call__(self, scores: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]]) -> float:
        """AP of one class from its scores (n,) and labels (n,)."""
        return self.of(precision_at_hits(scores, labels))

    def of(self, precisions: Precisions) -> float:
        """AP from a ranking made once and shared by several definitions."""
        return float(self.summary(precisions)) if len(precisions) else math.nan


def _from_the_right(precisions: Precisions) -> Precisions:
    """The best precision at this recall or any higher one."""
    return np.maximum.accumulate(precisions[::-1])[::-1]


def _area(precisions: Precisions) -> float:
    return float(np.mean(_from_the_right(precisions)))


def _eleven_points(precisions: Precisions) -> float:
    # Recall k/P >= j/10 is decided in integers: 0.1 * 3 > 0.3 in floating point, and a point would move.
    first_hit = np.maximum(-(-np.arange(11) * len(precisions) // 10), 1)
    return float(np.mean(_from_the_right(precisions)[first_hit - 1]))


def _mean(precisions: Precisions) -> float:
    return float(np.mean(precisions))


# VOC devkit from 2010 on: precision made monotone from the right, exact area under it.
voc2010_ap = Definition(_area)
# VOC devkit of 2007: mean of the monotone precision at recalls 0, 0.1 ... 1.
voc2007_ap = Definition(_eleven_points)
# Mean over the positives of the precision at their rank: usual on COCO, scikit-learn's for distinct scores.
uninterpolated_ap = Definition(_mean)

DEFINITIONS = {"voc2010": voc2010_ap, "voc2007": voc2007_ap, "uninterpolated": uninterpolated_ap}


def average_precisions(scores: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]]) -> dict[str, float]:
    """AP of one class under every definition, from a single sort of scores (n,) and labels (n,)."""
    precisions = precision_at_hits(scores, labels)
    return {name: definition.of(precisions) for name, definition in DEFINITIONS.items()}
