"""A threshold for each class and one temperature, chosen on labelled images; and how well calibrated they are."""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lshfm.errors import InputError
from lshfm.metrics.decisions import sigmoid

Logits = NDArray[np.float32]  # (n, C)
Labels = NDArray[np.int8]  # (n, C): +1 present, 0 only difficult objects, -1 absent

BINS = 15  # of the calibration error, equally wide
COLDEST, HOTTEST = 1 / 32, 32.0  # temperatures that are tried


@dataclass(frozen=True)
class Goal:
    """What thresholds are chosen for: the best F1, perhaps among those with at least this precision or recall."""

    kind: str = "f1"
    least: float = 0.0

    @classmethod
    def parse(cls, text: str) -> "Goal":
        """`f1`, `precision:0.9` or `recall:0.9`. Raises InputError."""
        if text == "f1":
            return cls()
        match = re.fullmatch(r"(precision|recall):(0?\.\d+|1(?:\.0*)?)", text)
        if not match:
            raise InputError(f"goal={text}: must be f1, precision:P or recall:P, P a share such as 0.9")
        return cls(match[1], float(match[2]))


def choose_thresholds(logits: Logits, labels: Labels, goal: Goal) -> NDArray[np.float64]:
    """The logit (C,) from which each class is predicted; 0 for a class without positives.

    It lies half way between the scores that it tells apart. Difficult labels count neither way. Where no threshold
    has the precision that is asked for, the one with the highest precision is taken.
    """
    return np.array([_choose(*column, goal) for column in zip(logits.T, labels.T, strict=True)])


def _choose(logits: NDArray[np.float32], labels: NDArray[np.int8], goal: Goal) -> float:
    counted = labels != 0
    scores, present = logits[counted].astype(np.float64), labels[counted] > 0
    if not present.any():
        return 0.0
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.cumsum(present[order])
    ends = np.append(scores[1:] < scores[:-1], True)  # equal scores are predicted together
    claims = np.flatnonzero(ends) + 1
    precision, recall = hits[ends] / claims, hits[ends] / hits[-1]
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    shares = {"precision": precision, "recall": recall}
    reached = shares[goal.kind] >= goal.least if goal.kind in shares else np.ones(len(f1), bool)
    best = int(np.argmax(np.where(reached, f1, -1.0) if reached.any() else precision))
    last = scores[claims[best] - 1]
    below = scores[claims[best]] if claims[best] < len(scores) else last - 1.0
    return float((last + below) / 2)


def fit_temperature(logits: Logits, labels: Labels) -> float:
    """The temperature with the lowest binary cross-entropy, over all labels that are not difficult.

    The entropy is convex in 1 / temperature, so that a search by sections finds its minimum.
    """
    counted = labels != 0
    scores, signs = logits[counted].astype(np.float64), labels[counted].astype(np.float64)

    def loss(inverse: float) -> float:
        return float(np.mean(np.logaddexp(0.0, -signs * scores * inverse)))

    low, high = 1 / HOTTEST, 1 / COLDEST
    while high - low > 1e-6 * high:
        first, second = low + (high - low) / 3, high - (high - low) / 3
        if loss(first) <= loss(second):
            high = second
        else:
            low = first
    return 2 / (low + high)


def calibration_error(logits: Logits, labels: Labels, temperature: float = 1.0) -> float:
    """ECE in percent: over 15 bins of probability, the gap between mean probability and share of positives.

    Each label of each image that is not difficult is one prediction; a bin counts by how many it holds.
    """
    counted = labels != 0
    probabilities, present = sigmoid(logits[counted].astype(np.float64) / temperature), labels[counted] > 0
    if not len(probabilities):
        return 0.0
    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    sums = np.bincount(bins, probabilities - present, BINS)
    return float(100 * np.abs(sums).sum() / len(probabilities))
