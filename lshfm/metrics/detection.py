"""All figures of a detector on a data set, under each definition of average precision in use."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lshfm.metrics.box_errors import error_counts
from lshfm.metrics.boxes import Found, Truth
from lshfm.metrics.coco_detection import coco_figures
from lshfm.metrics.voc_detection import voc_average_precisions

# What dataset.metric can be, in words for tables and reports.
DEFINITIONS = {
    "coco_ap50": "coco_ap50 (difficult removed): COCOeval's AP at an overlap of 0.5 and more, 101 recalls, at most 100 "
    "detections an image and class, difficult objects taken out, so that to find one is a false alarm",
    "voc2007": "the VOC2007 devkit's: mean of the precision at 11 recalls, overlap above 0.5, difficult objects "
    "ignored",
    "voc_area": "the VOC devkit's from 2010 on: area under precision made monotone, overlap above 0.5, difficult "
    "objects ignored",
    "coco_ap": "COCOeval's AP, mean over overlaps of 0.50, 0.55 ... 0.95, crowds ignored, difficult objects taken out",
}


def measure(truth: Truth, found: Found, num_images: int, classes: Sequence[str], metric: str) -> dict[str, Any]:
    """Every figure in percent, plain values; None where it is undefined. metric: the name of the one that leads."""
    of_class = class_figures(truth, found, num_images, len(classes))
    coco = of_class.pop("summary")
    means = {name: mean_of(values) for name, values in of_class.items()}
    return {
        "metric": metric,
        "AP": means[metric],
        **means,
        "coco": {name: percent(value) for name, value in coco.items()},
        "ap": {
            name: {key: percent(values[column]) for key, values in of_class.items()}
            for column, name in enumerate(classes)
        },
        "objects": {name: _count(truth, column) for column, name in enumerate(classes)},
        "difficult": {name: _count(truth, column, difficult=True) for column, name in enumerate(classes)},
        "errors": error_counts(truth, found),
        "images": num_images,
        "detections": len(found),
    }


def class_figures(truth: Truth, found: Found, num_images: int, num_classes: int) -> dict[str, Any]:
    """Fractions (C,) by definition, nan for classes without objects, and COCO's `summary` by name."""
    easy = truth.at(~truth.difficult)
    coco = coco_figures(easy, found, num_images, num_classes)
    voc = voc_average_precisions(truth, found, num_classes)
    return {"coco_ap50": coco.ap50, **voc, "coco_ap": coco.ap, "summary": coco.summary}


def mean_of(fractions: NDArray[np.float64]) -> float | None:
    """The mean over the classes that have objects, in percent; None if none has."""
    defined = fractions[~np.isnan(fractions)]
    return percent(defined.mean()) if len(defined) else None


def percent(fraction: float) -> float | None:
    """A plain number, None for nan."""
    return None if math.isnan(fraction) else 100 * float(fraction)


def _count(truth: Truth, label: int, *, difficult: bool = False) -> int:
    return int(((truth.label == label) & (truth.difficult == difficult) & ~truth.crowd).sum())
