"""From logits to probabilities and to the labels that are predicted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lshfm.errors import InputError

ACTIVATIONS = ("sigmoid", "softmax")
EVEN = 0.5  # where nobody chose a threshold
LIKELIEST = 5  # labels of a network whose classes exclude each other


@dataclass(frozen=True)
class Decisions:
    """How outputs become labels: `activation` of logits / `temperature`, then a threshold for each class.

    thresholds: probabilities in the order of the classes; None where none were chosen. A network whose `activation` is
    softmax gives the LIKELIEST labels wherever no threshold is asked for.
    """

    activation: str
    temperature: float = 1.0
    thresholds: tuple[float, ...] | None = None

    def probabilities(self, logits: NDArray[Any]) -> NDArray[np.float64]:
        """(n, C) to the same, in float64."""
        scaled = np.asarray(logits, np.float64) / self.temperature
        return sigmoid(scaled) if self.activation == "sigmoid" else softmax(scaled)

    def chosen(
        self, probabilities: NDArray[np.float64], threshold: float | None = None, top: int | None = None
    ) -> list[int]:
        """The classes predicted for an image's probabilities (C,), likeliest first; of equal ones the earlier class.

        threshold: the same for all classes, in place of those chosen for each. top: at most so many; without a
        threshold so many whatever their probability. Raises InputError for values that are none.
        """
        _check(threshold, top)
        order = np.argsort(-probabilities, kind="stable")
        if threshold is not None:
            order = order[probabilities[order] >= threshold]
        elif top is None:
            order = (
                order[:LIKELIEST]
                if self._excludes
                else order[(probabilities >= self._limits(len(probabilities)))[order]]
            )
        return [int(column) for column in order[:top]]

    @property
    def _excludes(self) -> bool:
        return self.activation == "softmax" and self.thresholds is None

    def _limits(self, num: int) -> NDArray[np.float64]:
        return np.full(num, EVEN) if self.thresholds is None else np.array(self.thresholds)


def sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / (1 + e^-x), without overflow."""
    small = np.exp(-np.abs(values))
    result: NDArray[np.float64] = np.where(values >= 0, 1.0, small) / (1.0 + small)
    return result


def softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shares of e^x along the last axis, without overflow."""
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    result: NDArray[np.float64] = powers / powers.sum(axis=-1, keepdims=True)
    return result


def _check(threshold: float | None, top: int | None) -> None:
    if threshold is not None and not 0 <= threshold <= 1:
        raise InputError(f"threshold={threshold}: must be a probability, from 0 to 1")
    if top is not None and top < 1:
        raise InputError(f"top={top}: must be a whole number above 0")


def named(classes: Sequence[str], probabilities: NDArray[np.float64], columns: Sequence[int]) -> dict[str, float]:
    """Labels with their probabilities, in the order of `columns`."""
    return {classes[column]: float(probabilities[column]) for column in columns}
