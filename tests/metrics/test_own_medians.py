"""Hash agreement where each network's features are hashed with their own medians."""

import numpy as np
import pytest

from lshfm.metrics import mimicry
from lshfm.metrics.mimicry import compare, measure, own_medians_agreement

TEACHER = np.array([[1, 0], [2, 4], [3, 1], [4, 3]], np.float32)
WEIGHTS = np.array([[1, 0], [0, 1], [1, 1]], np.float32)
BIAS = -np.array([2.5, 2.0, 5.0], np.float32)  # minus the teacher's medians: of 1 2 3 4, of 0 4 1 3, of 1 6 4 7


def plain(student: np.ndarray) -> float | int | None:
    return measure(student, TEACHER, compare(student, TEACHER, WEIGHTS, BIAS))["hash_agreement"]


def test_an_offset_changes_nothing_but_the_plain_number() -> None:
    assert plain(TEACHER) == own_medians_agreement(TEACHER, TEACHER, WEIGHTS) == 100
    student = TEACHER + np.array([8, 8], np.float32)
    assert plain(student) == 50  # all of its bits are 1, and half of the teacher's are
    assert own_medians_agreement(student, TEACHER, WEIGHTS) == 100
    assert own_medians_agreement(TEACHER * 4, TEACHER, WEIGHTS) == 100


def test_counted_by_hand() -> None:
    student = np.array([[5, 0], [6, 1], [4, 3], [7, 2]], np.float32)
    # W f of the student: 5 6 4 7, median 5.5: 0 1 0 1; 0 1 3 2, 1.5: 0 0 1 1; 5 7 7 9, 7: 0 0 0 1
    # teacher:            0 0 1 1; 0 1 0 1; 0 1 0 1: equal are 2 (first, last), 2, 3 of 4 each
    assert own_medians_agreement(student, TEACHER, WEIGHTS) == pytest.approx(100 * 7 / 12)


def test_opposite_features_agree_nowhere() -> None:
    assert own_medians_agreement(-TEACHER, TEACHER, WEIGHTS) == 0


def test_widths_that_differ() -> None:
    assert own_medians_agreement(TEACHER[:, :1], TEACHER, WEIGHTS) is None


def test_in_many_chunks_as_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = np.random.default_rng(0)
    student, teacher = numbers.normal(size=(2, 50, 8)).astype(np.float32)
    weights = numbers.normal(size=(30, 8)).astype(np.float32)
    whole = own_medians_agreement(student, teacher, weights)
    monkeypatch.setattr(mimicry, "BYTES", 50 * 4 * 2 * 7)  # seven functions at a time
    assert own_medians_agreement(student, teacher, weights) == whole
