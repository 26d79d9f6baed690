"""All numbers of a multi-label evaluation, from logits and labels of the whole split."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lshfm.checks import require_known
from lshfm.errors import RunFailed
from lshfm.metrics.average_precision import DEFINITIONS, average_precisions

Logits = NDArray[np.float32]  # (n, C)
Labels = NDArray[np.int8]  # (n, C): +1 present, 0 only difficult objects, -1 absent
Mask = NDArray[np.bool_]  # (n, C)


def measure(
    logits: Logits, labels: Labels, classes: Sequence[str], headline: str, threshold: float = 0.5
) -> dict[str, Any]:
    """Every metric of `logits` (n, C) against `labels` (n, C), as plain values that JSON can hold.

    All APs, precisions, recalls and F1s are in percent; `mAP` is the mAP named by `headline`. A class without
    positives has no AP (None) and is left out of every mean over classes: of mAP, CP and CR, and with them of
    CF1. In OP its predictions still count, as wrong ones. `classes_without_positives` names these classes and
    `classes_averaged` counts the others; if there are no others, all of these numbers are None.
    `positive_rate` is the fraction of positives among the labels that are not difficult: about what chance
    scores. `threshold_0.5` is called after the `threshold` in (0, 1), from which probability on a label counts as
    predicted; another one than 0.5 is also an entry by itself.

    Raises InputError for an unknown headline and RunFailed for logits that are not finite.
    """
    require_known("headline", headline, DEFINITIONS)
    assert logits.shape == labels.shape == (len(logits), len(set(classes)))
    assert logits.dtype == np.float32, "the ranking is defined on fp32 logits"
    refuse_non_finite(logits, classes)
    ap = {
        name: {key: _percent(value) for key, value in average_precisions(*column).items()}
        for name, *column in zip(classes, logits.T, labels.T, strict=True)
    }
    means = {key: _mean_defined([of_class[key] for of_class in ap.values()]) for key in DEFINITIONS}
    without_positives = [name for name in classes if ap[name][headline] is None]
    confident = logits.astype(np.float64) >= math.log(threshold / (1 - threshold))  # not rounded as a sigmoid's values
    at = f"threshold_{threshold:g}"
    return {
        "metric": headline,
        "mAP": means[headline],
        "mAPs": means,
        "ap": ap,
        **({} if threshold == 0.5 else {"threshold": threshold}),
        at: precision_recall(confident, labels),
        f"{at}_by_class": by_class(confident, labels, classes),
        "top_3": precision_recall(confident & highest(logits, 3), labels),
        "images": len(logits),
        "classes": len(classes),
        "classes_averaged": len(classes) - len(without_positives),
        "classes_without_positives": without_positives,
        "ignored_difficult": int(np.count_nonzero(labels == 0)),
        "positive_rate": _positive_rate(labels),
    }


def precision_recall(predicted: Mask, labels: Labels) -> dict[str, float | None]:
    """CP, CR, CF1 (means over classes) and OP, OR, OF1 (over all entries) of yes/no predictions, in percent.

    Difficult entries are left out. CP and CR average the classes that have positives; CF1 is the harmonic
    mean of CP and CR. Where nothing is predicted, precision is 0; where precision and recall are 0, so is F1.
    Without any positives all six are None.
    """
    hits, claims, positives = _counts(predicted, labels)
    if not positives.any():
        return dict.fromkeys(("CP", "CR", "CF1", "OP", "OR", "OF1"))
    averaged = positives > 0
    class_precision = float(np.mean(hits[averaged] / np.maximum(claims[averaged], 1)))
    class_recall = float(np.mean(hits[averaged] / positives[averaged]))
    precision = float(hits.sum() / max(claims.sum(), 1))
    recall = float(hits.sum() / positives.sum())
    values = {
        "CP": class_precision,
        "CR": class_recall,
        "CF1": _harmonic_mean(class_precision, class_recall),
        "OP": precision,
        "OR": recall,
        "OF1": _harmonic_mean(precision, recall),
    }
    return {name: 100 * value for name, value in values.items()}


def by_class(predicted: Mask, labels: Labels, classes: Sequence[str]) -> list[dict[str, Any]]:
    """A row a class: precision, recall and F1 of yes/no predictions in percent, and support, its positives.

    Difficult entries are left out. Without positives the three are None, as AP is; where nothing is predicted,
    precision is 0, and so is F1.
    """
    hits, claims, positives = _counts(predicted, labels)
    return [
        {"class": name} | _row(*counts)
        for name, *counts in zip(classes, hits.tolist(), claims.tolist(), positives.tolist(), strict=True)
    ]


def _counts(predicted: Mask, labels: Labels) -> tuple[NDArray[np.int64], ...]:
    """Each (C,): what is predicted rightly, what is predicted, and what is there; difficult entries aside."""
    present = labels > 0
    return tuple(np.count_nonzero(mask, axis=0) for mask in (predicted & present, predicted & (labels != 0), present))


def _row(hits: int, claims: int, positives: int) -> dict[str, Any]:
    if not positives:
        return {"precision": None, "recall": None, "f1": None, "support": 0}
    precision, recall = hits / max(claims, 1), hits / positives
    shares = {"precision": precision, "recall": recall, "f1": _harmonic_mean(precision, recall)}
    return {name: 100 * share for name, share in shares.items()} | {"support": positives}


def highest(logits: Logits, k: int) -> Mask:
    """Marks the k highest scores of each image (n, C); among equal ones the earlier class is taken.

    Difficult classes take part: what an image's highest scores are does not depend on its labels.
    """
    chosen = np.zeros(logits.shape, dtype=bool)
    np.put_along_axis(chosen, np.argsort(-logits, axis=1, kind="stable")[:, :k], True, axis=1)
    return chosen


def losses_of_images(logits: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.float64]:
    """Each image's binary cross-entropy (n,), mean over its labels that are not difficult: (n, C), (n, C) -> (n,)."""
    signs = np.asarray(labels, np.float64)
    entropies = np.logaddexp(0.0, -signs * np.asarray(logits, np.float64)) * (signs != 0)
    means: NDArray[np.float64] = entropies.sum(axis=1) / np.maximum((signs != 0).sum(axis=1), 1)
    return means


def devkit_lines(ids: Sequence[str], scores: NDArray[np.float32]) -> str:
    """A result file of the VOC devkit for one class: a line "image_id score" for each of the n images.

    Nine significant digits give every fp32 score back exactly, so the devkit ranks as we do.
    """
    return "".join(f"{id_} {score:.9g}\n" for id_, score in zip(ids, scores.tolist(), strict=True))


def refuse_non_finite(logits: Logits, classes: Sequence[str]) -> None:
    """Raise RunFailed, naming the first, if logits (n, C) are not finite."""
    bad = ~np.isfinite(logits)
    rows = np.flatnonzero(bad.any(axis=1))
    if not len(rows):
        return
    column = int(np.argmax(bad[rows[0]]))
    raise RunFailed(
        f"the network's output is not finite for {len(rows)} of {len(logits)} images: the first is row "
        f"{rows[0]} (counted from 0), where class {classes[column]!r} has logit {logits[rows[0], column]}. "
        "No metric can be taken from these weights; use a checkpoint from before they diverged, or train "
        "with a lower lr."
    )


def _percent(fraction: float) -> float | None:
    return None if np.isnan(fraction) else float(100 * fraction)


def _mean_defined(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def _harmonic_mean(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b else 0.0


def _positive_rate(labels: Labels) -> float | None:
    counted = int(np.count_nonzero(labels))
    return int(np.count_nonzero(labels > 0)) / counted if counted else None
