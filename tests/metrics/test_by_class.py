"""Precision, recall, F1 and support of each class: by hand, and as scikit-learn has them."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_fscore_support

from lshfm.metrics.multilabel import by_class, measure

CLASSES = ["a", "b", "c"]


def test_by_hand() -> None:
    predicted = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 0, 1]], bool)
    labels = np.array([[1, 1, -1], [1, -1, -1], [-1, 0, 1], [1, 1, 0], [0, 0, -1]], np.int8)
    two_thirds = pytest.approx(200 / 3)
    assert by_class(predicted, labels, CLASSES) == [
        {"class": "a", "precision": two_thirds, "recall": two_thirds, "f1": two_thirds, "support": 3},
        {"class": "b", "precision": 100.0, "recall": 50.0, "f1": two_thirds, "support": 2},
        {"class": "c", "precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1},
    ]  # fmt: skip


def test_a_class_without_positives_has_none_and_one_that_is_never_predicted_0() -> None:
    predicted = np.array([[1, 0], [0, 0]], bool)
    labels = np.array([[-1, 1], [0, 1]], np.int8)
    assert by_class(predicted, labels, CLASSES[:2]) == [
        {"class": "a", "precision": None, "recall": None, "f1": None, "support": 0},
        {"class": "b", "precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 2},
    ]


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.floats(-1, 1))
def test_as_scikit_learn(seed: int, images: int, shift: float) -> None:
    drawn = np.random.default_rng(seed)
    logits = (drawn.normal(size=(images, 3)) + shift).astype(np.float32)
    labels = drawn.choice([-1, 0, 1], (images, 3), p=[0.5, 0.2, 0.3]).astype(np.int8)
    rows = measure(logits, labels, CLASSES, "voc2010")["threshold_0.5_by_class"]
    json.dumps(rows, allow_nan=False)
    assert [row["class"] for row in rows] == CLASSES
    for column, row in enumerate(rows):
        counted = labels[:, column] != 0
        truth, said = labels[counted, column] > 0, logits[counted, column] >= 0
        assert row["support"] == truth.sum()
        if not truth.any():
            assert [row[name] for name in ("precision", "recall", "f1")] == [None] * 3
            continue
        expected = precision_recall_fscore_support(truth, said, labels=[True], zero_division=0)
        assert [row["precision"], row["recall"], row["f1"]] == pytest.approx([100 * part[0] for part in expected[:3]])
