"""Top-1, top-5, NLL, calibration and confusion, by hand and against scikit-learn."""

import math

import numpy as np
import pytest
from sklearn import metrics

from lshfm.errors import InputError, RunFailed
from lshfm.metrics.singlelabel import calibration_error, confusion_matrix, measure, most_confused

CLASSES = [f"c{i}" for i in range(7)]


def drawn(n: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 6, n)  # none of the last class
    return (random.normal(size=(n, 7)) + 2 * np.eye(7)[labels]).astype(np.float32), labels


def test_by_hand() -> None:
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.2, 0.5, 0.3], [0.1, 0.6, 0.3]])).astype(np.float32)
    report = measure(logits, np.array([0, 1, 2]), ["a", "b", "c"], "top1")
    assert report["accuracy"] == report["top1"] == pytest.approx(100 * 2 / 3)
    assert report["top5"] == 100
    assert report["nll"] == pytest.approx(-math.log(0.7 * 0.5 * 0.3) / 3, abs=1e-6)
    assert [row["accuracy"] for row in report["per_class"]] == [100, 100, 0]
    assert [row["precision"] for row in report["per_class"]] == [100, 50, None]
    assert report["confusion"] == [[0, 0, 1], [1, 1, 1], [2, 1, 1]]
    assert most_confused(report) == [("c", "b", 1)]
    # Confidences 0.7 (right), 0.5 (right), 0.6 (wrong), each alone in its bin of a fifteenth.
    assert report["ece"] == pytest.approx(100 * (0.3 + 0.5 + 0.6) / 3, abs=1e-4)


def test_against_scikit_learn() -> None:
    logits, labels = drawn()
    report = measure(logits, labels, CLASSES, "top5")
    exact = logits.astype(np.float64)
    p = np.exp(exact) / np.exp(exact).sum(1, keepdims=True)
    for k in (1, 5):
        expected = metrics.top_k_accuracy_score(labels, exact, k=k, labels=range(7))
        assert report[f"top{k}"] == pytest.approx(100 * expected)
    assert report["accuracy"] == report["top5"]
    assert report["nll"] == pytest.approx(metrics.log_loss(labels, p, labels=range(7)))
    matrix = metrics.confusion_matrix(labels, exact.argmax(1), labels=range(7))
    assert (confusion_matrix(report) == matrix).all()
    assert report["classes_without_images"] == ["c6"]
    assert report["per_class"][6] == {"class": "c6", "accuracy": None, "precision": pytest.approx(0), "support": 0}
    recalls = metrics.recall_score(labels, exact.argmax(1), average=None, labels=range(6))
    assert report["mean_class_accuracy"] == pytest.approx(100 * recalls.mean())


def test_of_equal_logits_the_earlier_class_comes_first() -> None:
    logits = np.zeros((6, 6), np.float32)
    report = measure(logits, np.arange(6), list("abcdef"), "top1")
    assert report["top1"] == pytest.approx(100 / 6)
    assert report["top5"] == pytest.approx(500 / 6)


def test_many_images_are_the_same_as_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = drawn()
    whole = measure(logits, labels, CLASSES, "top1")
    monkeypatch.setattr("lshfm.metrics.singlelabel._ROWS", 7)
    assert measure(logits, labels, CLASSES, "top1") == whole


def test_large_logits_are_finite() -> None:
    report = measure(np.array([[1e4, -1e4]], np.float32), np.array([1]), ["a", "b"], "top1")
    assert report["nll"] == 2e4
    assert report["ece"] == 100


def test_images_without_a_known_label_count_nowhere() -> None:
    logits, labels = drawn()
    whole = measure(logits, labels, CLASSES, "top1")
    more = np.concatenate([logits, logits[:5]]), np.concatenate([labels, np.full(5, -1)])
    assert measure(*more, CLASSES, "top1") == whole
    none = measure(logits[:2], np.full(2, -1), CLASSES, "top1")
    assert (none["accuracy"], none["nll"], none["ece"], none["images"]) == (None, None, None, 0)


def test_calibration_of_a_certain_and_right_network_is_none() -> None:
    assert calibration_error(np.ones(4), np.ones(4, bool)) == 0
    assert calibration_error(np.array([0.5] * 4), np.array([True, True, False, False])) == pytest.approx(0, abs=1e-12)
    assert calibration_error(np.empty(0), np.empty(0, bool)) is None


def test_what_is_refused() -> None:
    logits, labels = drawn(3)
    with pytest.raises(InputError, match="headline=top2"):
        measure(logits, labels, CLASSES, "top2")
    logits[1, 2] = np.nan
    with pytest.raises(RunFailed, match="not finite for 1 of 3 images"):
        measure(logits, labels, CLASSES, "top1")
