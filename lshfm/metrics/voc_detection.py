"""Average precision of detections by the rules of the PASCAL VOC devkit (Everingham et al. 2010, VOCevaldet.m).

Detections of a class are taken best score first, ties in the order given. Each belongs to the object of its class in
its image that it overlaps most, whether that is taken or not (of equals the first). Above an overlap of a half it is
a hit if it is the object's first, and a false alarm if not; at or below, a false alarm. One on a difficult object
counts as neither, and difficult objects are no positives. Crowds are treated as difficult.
"""

import numpy as np
from numpy.typing import NDArray

from lshfm.metrics.average_precision import Precisions, voc2007_ap, voc2010_ap
from lshfm.metrics.boxes import Flags, Found, Numbers, Truth, groups, overlaps

OVERLAP = 0.5  # an intersection over union that a hit must exceed
DEFINITIONS = {"voc2007": voc2007_ap, "voc_area": voc2010_ap}
HIT, FALSE, IGNORED = 1, 0, -1


def voc_average_precisions(truth: Truth, found: Found, num_classes: int) -> dict[str, NDArray[np.float64]]:
    """The AP of each class, a fraction (C,), by definition; nan for a class without an object that counts."""
    rankings = [ranking(truth, found, label) for label in range(num_classes)]
    precisions = [precision_at_hits(*each) for each in rankings]
    return {name: np.array([definition.of(p) for p in precisions]) for name, definition in DEFINITIONS.items()}


def ranking(truth: Truth, found: Found, label: int) -> tuple[NDArray[np.int8], int]:
    """Of one class: its detections as HIT or FALSE, best first, without ignored ones; and its number of positives."""
    truth, found = truth.at(truth.label == label), found.at(found.label == label)
    found = found.at(np.argsort(-found.score, kind="stable"))
    verdicts = judge(truth, found)
    return verdicts[verdicts != IGNORED], int((~_ignored(truth)).sum())


def judge(truth: Truth, found: Found) -> NDArray[np.int8]:
    """HIT, FALSE or IGNORED for the detections (d,) of a class, which are sorted best first."""
    best, overlap = best_objects(truth, found)
    verdicts = np.full(len(found), FALSE, np.int8)
    on_object = np.flatnonzero(overlap > OVERLAP)
    _, first = np.unique(best[on_object], return_index=True)
    verdicts[on_object[first]] = HIT
    verdicts[on_object[_ignored(truth)[best[on_object]]]] = IGNORED
    return verdicts


def best_objects(truth: Truth, found: Found) -> tuple[Numbers, NDArray[np.float64]]:
    """For each detection of a class the row of the object in its image that it overlaps most, and by how much.

    (d,) and (d,); row 0 with overlap 0 where there is none.
    """
    best, overlap = np.zeros(len(found), np.int64), np.zeros(len(found))
    objects = dict(groups(truth.image))
    for image, rows in groups(found.image):
        if image in objects:
            pairs = overlaps(found.box[rows], truth.box[objects[image]])
            chosen = pairs.argmax(axis=1)
            best[rows], overlap[rows] = objects[image][chosen], pairs[np.arange(len(rows)), chosen]
    return best, overlap


def precision_at_hits(verdicts: NDArray[np.int8], positives: int) -> Precisions:
    """The precision at each hit, best ranked first, and 0 for each object that is not found: (P,)."""
    ranks = np.flatnonzero(verdicts == HIT) + 1
    precisions = np.zeros(positives)
    precisions[: len(ranks)] = np.arange(1, len(ranks) + 1) / ranks
    return precisions


def counted(truth: Truth) -> Flags:
    """Which objects (g,) are to be found: those that are neither difficult nor crowds."""
    return ~_ignored(truth)


def _ignored(truth: Truth) -> Flags:
    return truth.difficult | truth.crowd
