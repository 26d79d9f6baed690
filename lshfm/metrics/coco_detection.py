"""COCO's average precision and recall of boxes, computed by pycocotools (Lin et al. 2014)."""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from lshfm.metrics.boxes import Coordinates, Found, Truth

# The twelve numbers of its summary, in its order: precision over the overlaps 0.50, 0.55 ... 0.95, and recall.
SUMMARY = (
    "AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large",
    "AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large",
)  # fmt: skip


@dataclass(frozen=True)
class CocoFigures:
    """Fractions; nan where there is nothing to find."""

    summary: dict[str, float]  # by the names of SUMMARY
    ap: NDArray[np.float64]  # (C,)
    ap50: NDArray[np.float64]  # (C,)


def coco_figures(truth: Truth, found: Found, num_images: int, num_classes: int) -> CocoFigures:
    """COCOeval's numbers on boxes, at most 100 detections an image and class; crowds are ignored by its rules.

    Whether objects are difficult is not looked at: take them out, or not. An object's size is its area, a detection's
    that of its box.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = _evaluated(truth, found, num_images, num_classes)
    # (overlaps, recalls, classes, areas, limits): all areas, 100 detections
    precision = np.asarray(evaluation.eval["precision"])[..., 0, -1]
    summary = {name: _or_nan(value) for name, value in zip(SUMMARY, evaluation.stats, strict=True)}
    return CocoFigures(summary, _mean(precision), _mean(precision[:1]))


def _evaluated(truth: Truth, found: Found, num_images: int, num_classes: int) -> Any:
    reference = COCO()
    reference.dataset = {
        "images": [{"id": number} for number in range(num_images)],
        "categories": [{"id": number} for number in range(num_classes)],
        "annotations": _annotations(truth),
    }
    reference.createIndex()
    evaluation = COCOeval(reference, _results(reference, found), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation


def _annotations(truth: Truth) -> list[dict[str, Any]]:
    keys = ("image_id", "category_id", "bbox", "area", "iscrowd")
    image, label, area, crowd = (each.tolist() for each in (truth.image, truth.label, truth.area, truth.crowd))
    rows = zip(image, label, _corner_and_sides(truth.box), area, map(int, crowd), strict=True)
    return [
        {"id": number, **dict(zip(keys, row, strict=True))}
        for number, row in enumerate(rows, start=1)  # to COCOeval 0 means no match
    ]


def _results(reference: Any, found: Found) -> Any:
    if not len(found):
        empty = COCO()
        empty.dataset = {**reference.dataset, "annotations": []}
        empty.createIndex()
        return empty
    boxes = _corner_and_sides(found.box)
    columns = zip(found.image.tolist(), found.label.tolist(), boxes, found.score.tolist(), strict=True)
    keys = ("image_id", "category_id", "bbox", "score")
    return reference.loadRes([dict(zip(keys, row, strict=True)) for row in columns])


def _corner_and_sides(boxes: Coordinates) -> Sequence[list[float]]:
    sides: list[list[float]] = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).tolist()
    return sides


def _mean(precision: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over overlaps and recalls, (T, R, C) -> (C,); -1 stands for a class without objects."""
    return np.where(precision[0, 0] > -1, precision.mean(axis=(0, 1)), np.nan)


def _or_nan(value: float) -> float:
    return float(value) if value > -1 else float("nan")
