"""What a report's page says of detectors: their sections, and images with objects and detections."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from lshfm.config.groups import Dataset
from lshfm.datasets.boxes import COLUMNS
from lshfm.metrics.boxes import Found, Truth
from lshfm.report.arms import Arm
from lshfm.report.blocks import Section
from lshfm.report.facts import Run
from lshfm.report.scenes import Shot, images_to_show, scenes_section
from lshfm.tasks.detection.evaluation import found_of, truth_of
from lshfm.tasks.task import Task
from lshfm.tasks.thumbnails import readable

SIDE, QUALITY = 480, 72  # pixels of a shot's longer side, of JPEG


def sections(arms: Sequence[Arm]) -> list[Section]:
    """AP by class, precision over recall, and what is wrong with detections."""
    from lshfm.report import detection_page  # with a library that only reports need

    return detection_page.sections(arms, boxes_of)


def boxes_of(run: Run) -> tuple[Truth, Found] | None:
    """The objects of a run's test images and what it found; None for arrays that are missing or damaged."""
    arrays, num = run.arrays, len(run.classes)
    if not {"ids", "objects", "boxes", "scores", "labels"} <= arrays.keys() or not num:
        return None
    shape = arrays["scores"].shape
    fits = len(shape) == 2 and arrays["boxes"].shape == (*shape, 4) and arrays["labels"].shape == shape
    fits = fits and arrays["objects"].ndim == 3 and arrays["objects"].shape[2] == COLUMNS
    numbers = all(arrays[name].dtype.kind in "fiu" for name in ("objects", "boxes", "scores", "labels"))
    if not fits or not numbers or arrays["ids"].ndim != 1 or arrays["ids"].dtype.kind != "U":
        return None
    truth, found = truth_of(arrays["objects"]), found_of(arrays)
    are_classes = all(((each.label >= 0) & (each.label < num)).all() for each in (truth, found))
    are_finite = all(np.isfinite(values).all() for values in (truth.box, found.box, found.score))
    return (truth, found) if are_classes and are_finite else None


def scenes(task: Task, dataset: Dataset, arms: Sequence[Arm]) -> tuple[Section | None, str | None]:
    """A few test images with their objects and each network's detections; and why pictures are missing, if some are."""
    ids = images_to_show(arms, boxes_of)
    if not ids:
        return None, None
    split = next(run.split for arm in arms for run in arm.finished if boxes_of(run))
    shots, why = readable(task, dataset, str(split), ids, lambda images, row: _shot(images.picture(row)))
    return scenes_section(arms, boxes_of, ids, shots), why


def _shot(picture: Image.Image) -> Shot:
    small, buffer = picture.copy(), io.BytesIO()
    small.thumbnail((SIDE, SIDE))
    small.save(buffer, "JPEG", quality=QUALITY)
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return Shot(f"data:image/jpeg;base64,{encoded}", picture.width, picture.height)
