"""Metrics of single-label classification: logits (n, C) and labels int64 (n,), each below C."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lshfm.checks import require_known
from lshfm.metrics.multilabel import refuse_non_finite

Logits = NDArray[np.float32]
Labels = NDArray[np.int64]

# What each metric is, as tables and cards word it.
DEFINITIONS = {
    "top1": "share of images whose label has the largest logit",
    "top5": "share of images whose label is among the five largest logits",
}
BINS = 15  # of the calibration error
MOST_CONFUSED = 20
_ROWS = 4096  # images that are looked at together


def measure(logits: Logits, labels: Labels, classes: Sequence[str], headline: str) -> dict[str, Any]:
    """Every metric as plain values; shares in percent, `headline` leads as `accuracy`.

    Images whose label is -1, which is not known, count nowhere. Of equal logits the earlier class comes first.
    nll: mean of -log softmax at the label, in nats. ece: the calibration error of the likeliest class over BINS equal
    bins of its probability (Guo et al. 2017, arXiv 1706.04599). per_class: a row a class; an accuracy is None without
    images. confusion: [label, likeliest class, images], none of 0 images.
    Raises InputError for another headline, RunFailed for logits that are not finite.
    """
    require_known("headline", headline, DEFINITIONS)
    assert logits.dtype == np.float32
    assert labels.shape == (len(logits),)
    assert len(classes) == logits.shape[1]
    refuse_non_finite(logits, classes)
    is_known = labels >= 0
    logits, labels = logits[is_known], labels[is_known]
    places, best, nll, confidence = (np.concatenate(parts) for parts in zip(*_of_parts(logits, labels), strict=True))
    shares = {"top1": _percent(places < 1), "top5": _percent(places < 5)}
    rows = per_class(best, labels, classes)
    defined = [row["accuracy"] for row in rows if row["accuracy"] is not None]
    confused = _confusion(best, labels, len(classes))
    return {
        "metric": headline,
        "accuracy": shares[headline],
        **shares,
        "nll": float(nll.mean()) if len(nll) else None,
        "ece": calibration_error(confidence, best == labels),
        "mean_class_accuracy": sum(defined) / len(defined) if defined else None,
        "per_class": rows,
        "confusion": confused,
        "images": len(logits),
        "classes": len(classes),
        "classes_without_images": [row["class"] for row in rows if not row["support"]],
    }


def losses_of_images(logits: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.float64]:
    """Each image's cross-entropy in nats (n,); 0 where the label is -1, which is not known."""
    is_known = labels >= 0
    losses = np.zeros(len(logits))
    losses[is_known] = np.concatenate([nll for _, _, nll, _ in _of_parts(logits[is_known], labels[is_known])])
    return losses


def _of_parts(logits: Logits, labels: Labels) -> Iterator[tuple[NDArray[Any], ...]]:
    """Of some images at a time: the label's place among the logits, the likeliest class, -log p, its probability."""
    for start in range(0, max(len(logits), 1), _ROWS):
        part, own = logits[start : start + _ROWS].astype(np.float64), labels[start : start + _ROWS]
        at_label = np.take_along_axis(part, own[:, None], axis=1)
        is_earlier = np.arange(part.shape[1]) < own[:, None]
        places = (part > at_label).sum(1) + ((part == at_label) & is_earlier).sum(1)
        best = part.argmax(1)
        shifted = part - part.max(1, keepdims=True, initial=-np.inf)
        log_sum = np.log(np.exp(shifted).sum(1))
        nll = log_sum - np.take_along_axis(shifted, own[:, None], axis=1)[:, 0]
        yield places, best, nll, np.exp(-log_sum)  # the likeliest class is at 0 of `shifted`


def per_class(best: Labels, labels: Labels, classes: Sequence[str]) -> list[dict[str, Any]]:
    """A row a class: share of its images that are told right, of those told so that are it, and its images."""
    count = len(classes)
    there, told, hits = (
        np.bincount(values, minlength=count).tolist() for values in (labels, best, labels[best == labels])
    )
    return [
        {
            "class": name, "accuracy": 100 * right / own if own else None,
            "precision": 100 * right / said if said else None, "support": own,
        }
        for name, own, said, right in zip(classes, there, told, hits, strict=True)
    ]  # fmt: skip


def _confusion(best: Labels, labels: Labels, count: int) -> list[list[int]]:
    """[label, likeliest class, images] in the order of the first two."""
    pairs, times = np.unique(labels * count + best, return_counts=True)
    return [[int(pair) // count, int(pair) % count, int(n)] for pair, n in zip(pairs, times, strict=True)]


def confusion_matrix(report: dict[str, Any]) -> NDArray[np.int64]:
    """(C, C): images of each class (row) told to be each class (column), from a report."""
    matrix = np.zeros((report["classes"], report["classes"]), np.int64)
    for label, best, times in report["confusion"]:
        matrix[label, best] = times
    return matrix


def most_confused(report: dict[str, Any]) -> list[tuple[str, str, int]]:
    """The most frequent mistakes: class, what it was told to be, images."""
    names = [row["class"] for row in report["per_class"]]
    wrong = sorted((entry for entry in report["confusion"] if entry[0] != entry[1]), key=lambda entry: -entry[2])
    return [(names[label], names[best], times) for label, best, times in wrong[:MOST_CONFUSED]]


def calibration_error(confidence: NDArray[np.float64], is_right: NDArray[np.bool_]) -> float | None:
    """Mean gap between confidence and accuracy over bins (a, b] of equal width, by their images; in percent."""
    if not len(confidence):
        return None
    bins = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    gaps = np.bincount(bins, confidence, BINS) - np.bincount(bins, is_right.astype(np.float64), BINS)
    return float(100 * np.abs(gaps).sum() / len(confidence))


def _percent(holds: NDArray[np.bool_]) -> float | None:
    return float(100 * holds.mean()) if len(holds) else None
