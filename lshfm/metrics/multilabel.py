"""All numbers of a multi-label evaluation, from logits and labels of the whole split."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lshfm.errors import InputError, RunFailed, nearest
from lshfm.metrics.average_precision import DEFINITIONS, average_precisions

Logits = NDArray[np.float32]  # (n, C)
Labels = NDArray[np.int8]  # (n, C): +1 present, 0 only difficult objects, -1 absent
Mask = NDArray[np.bool_]  # (n, C)


def measure(logits: Logits, labels: Labels, classes: Sequence[str], headline: str) -> dict[str, Any]:
    """Every metric of `logits` (n, C) against `labels` (n, C), as plain values that JSON can hold.

    All APs, precisions, recalls and F1s are in percent; `mAP` is the mAP named by `headline`. A class without
    positives has no AP (None) and is left out of every mean over classes: of mAP, CP and CR, and with them of
    CF1. In OP its predictions still count, as wrong ones. `classes_without_positives` names these classes and
    `classes_averaged` counts the others; if there are no others, all of these numbers are None.
    `positive_rate` is the fraction of positives among the labels that are not difficult: about what chance
    scores.

    Raises InputError for an unknown headline and RunFailed for logits that are not finite.
    """
    check_headline(headline)
    assert logits.shape == labels.shape == (len(logits), len(set(classes)))
    assert logits.dtype == np.float32, "the ranking is defined on fp32 logits"
    _refuse_non_finite(logits, classes)
    ap = {
        name: {key: _percent(value) for key, value in average_precisions(*column).items()}
        for name, *column in zip(classes, logits.T, labels.T, strict=True)
    }
    means = {key: _mean_defined([of_class[key] for of_class in ap.values()]) for key in DEFINITIONS}
    without_positives = [name for name in classes if ap[name][headline] is None]
    confident = logits >= 0  # p >= 0.5, without the rounding of a sigmoid
    return {
        "metric": headline,
        "mAP": means[headline],
        "mAPs": means,
        "ap": ap,
        "threshold_0.5": precision_recall(confident, labels),
        "top_3": precision_recall(confident & highest(logits, 3), labels),
        "images": len(logits),
        "classes": len(classes),
        "classes_averaged": len(classes) - len(without_positives),
        "classes_without_positives": without_positives,
        "ignored_difficult": int(np.count_nonzero(labels == 0)),
        "positive_rate": _positive_rate(labels),
    }


def check_headline(name: str) -> None:
    """Raise InputError, with the choices and the nearest of them, unless `name` is a definition of mAP."""
    if name in DEFINITIONS:
        return
    choices = ", ".join(DEFINITIONS)
    raise InputError(
        f"dataset.metric: there is no mAP named {name!r}{nearest(name, DEFINITIONS)}; the choices are {choices}"
    )


def precision_recall(predicted: Mask, labels: Labels) -> dict[str, float | None]:
    """CP, CR, CF1 (means over classes) and OP, OR, OF1 (over all entries) of yes/no predictions, in percent.

    Difficult entries are left out. CP and CR average the classes that have positives; CF1 is the harmonic
    mean of CP and CR. Where nothing is predicted, precision is 0; where precision and recall are 0, so is F1.
    Without any positives all six are None.
    """
    hits = np.count_nonzero(predicted & (labels > 0), axis=0)  # (C,)
    claims = np.count_nonzero(predicted & (labels != 0), axis=0)
    positives = np.count_nonzero(labels > 0, axis=0)
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


def highest(logits: Logits, k: int) -> Mask:
    """Marks the k highest scores of each image (n, C); among equal ones the earlier class is taken.

    Difficult classes take part: what an image's highest scores are does not depend on its labels.
    """
    chosen = np.zeros(logits.shape, dtype=bool)
    np.put_along_axis(chosen, np.argsort(-logits, axis=1, kind="stable")[:, :k], True, axis=1)
    return chosen


def devkit_lines(ids: Sequence[str], scores: NDArray[np.float32]) -> str:
    """A result file of the VOC devkit for one class: a line "image_id score" for each of the n images.

    Nine significant digits give every fp32 score back exactly, so the devkit ranks as we do.
    """
    return "".join(f"{id_} {score:.9g}\n" for id_, score in zip(ids, scores.tolist(), strict=True))


def _refuse_non_finite(logits: Logits, classes: Sequence[str]) -> None:
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
