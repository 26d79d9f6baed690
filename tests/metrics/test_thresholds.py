"""Thresholds for each class, temperature and calibration error."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lshfm.errors import InputError
from lshfm.metrics.multilabel import by_class
from lshfm.metrics.thresholds import Goal, calibration_error, choose_thresholds, fit_temperature

#                  5   4   3   2   1 (difficult labels aside)
LOGITS = np.array([[5.0, 4.0, 9.0, 3.0, 2.0, 1.0]], np.float32).T
LABELS = np.array([[1, -1, 0, 1, 1, -1]], np.int8).T


def chosen(goal: str) -> float:
    return float(choose_thresholds(LOGITS, LABELS, Goal.parse(goal))[0])


def test_the_best_f1_and_goals() -> None:
    assert chosen("f1") == 1.5  # precision 3/4, recall 1: half way between 2 and 1
    assert chosen("precision:0.7") == 1.5
    assert chosen("precision:0.9") == 4.5  # precision 1, recall 1/3
    assert chosen("recall:0.5") == 1.5
    assert choose_thresholds(LOGITS, -np.abs(LABELS), Goal())[0] == 0  # no positives: nothing to choose by
    worst = choose_thresholds(np.float32([[2], [1]]), np.int8([[-1], [1]]), Goal("precision", 0.9))
    assert worst[0] == 0.5  # never reached: the highest precision there is, 1/2 where both are predicted
    assert choose_thresholds(np.float32([[1], [1], [0]]), np.int8([[1], [1], [-1]]), Goal())[0] == 0.5


@pytest.mark.parametrize("text", ["f2", "precision", "precision:2", "recall:-1", "precision:nan"])
def test_what_is_no_goal(text: str) -> None:
    with pytest.raises(InputError, match="must be f1, precision:P or recall:P"):
        Goal.parse(text)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(-5, 5), st.sampled_from([-1, 0, 1])), min_size=1, max_size=25))
def test_no_threshold_has_a_better_f1(rows: list[tuple[int, int]]) -> None:
    logits, labels = (np.array(column)[:, None] for column in zip(*rows, strict=True))
    logits, labels = logits.astype(np.float32), labels.astype(np.int8)

    def f1(limit: float) -> float:
        return by_class(logits >= limit, labels, ["a"])[0]["f1"] or 0.0

    mine = f1(choose_thresholds(logits, labels, Goal())[0])
    assert mine >= max(f1(limit) for limit in np.arange(-5.5, 6.5)) - 1e-9 or not (labels > 0).any()


def test_temperature_and_calibration_error() -> None:
    random = np.random.default_rng(0)
    truth = random.normal(0, 2, (4000, 3))
    labels = np.where(random.random(truth.shape) < 1 / (1 + np.exp(-truth)), 1, -1).astype(np.int8)
    overconfident = (3 * truth).astype(np.float32)
    temperature = fit_temperature(overconfident, labels)
    assert temperature == pytest.approx(3.0, rel=0.05)
    assert calibration_error(overconfident, labels, temperature) < 2 < 8 < calibration_error(overconfident, labels)
    two = np.float32([[100.0], [100.0], [-100.0]])  # one bin of 2 at p = 1 with half right, one of 1 at p = 0
    assert calibration_error(two, np.int8([[1], [-1], [-1]])) == pytest.approx(100 / 3)
    assert calibration_error(two, np.int8([[1], [0], [-1]])) == pytest.approx(0)
    assert calibration_error(two, np.int8([[0], [0], [0]])) == 0
