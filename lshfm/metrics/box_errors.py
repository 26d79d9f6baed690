"""What is wrong with detections, by kind: double, wrong class, badly placed, nothing there; and objects missed.

Kinds as Hoiem et al. 2012 (Diagnosing Error in Object Detectors) part them, at a score from which detections count.
"""

import numpy as np
from numpy.typing import NDArray

from lshfm.metrics.boxes import Found, Truth, groups, overlaps

RIGHT, DOUBLE, WRONG_CLASS, BADLY_PLACED, NOTHING_THERE, IGNORED = range(6)
KINDS = ("right", "double", "wrong class", "badly placed", "nothing there", "on difficult ones")
ENOUGH, SOME = 0.5, 0.1  # overlaps: above the first on an object, above the second near it
SCORE = 0.5


def kinds_of(truth: Truth, found: Found) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    """The kind of each detection (d,), and which objects (g,) are found.

    Best score first, a detection is matched with the object of its class that it overlaps most of those still free.
    """
    kinds, is_found = np.full(len(found), NOTHING_THERE, np.int8), np.zeros(len(truth), bool)
    objects = dict(groups(truth.image))
    for image, rows in groups(found.image):
        if image in objects:
            ordered = rows[np.argsort(-found.score[rows], kind="stable")]
            _of_image(truth, found, objects[image], ordered, kinds, is_found)
    return kinds, is_found


def _of_image(
    truth: Truth, found: Found, objects: NDArray[np.int64], rows: NDArray[np.int64], kinds: NDArray[np.int8],
    is_found: NDArray[np.bool_],
) -> None:  # fmt: skip
    pairs = overlaps(found.box[rows], truth.box[objects])
    ignored = (truth.difficult | truth.crowd)[objects]
    for row, shares in zip(rows, pairs, strict=True):
        own = truth.label[objects] == found.label[row]
        on = own & (shares > ENOUGH)
        free = on & ~is_found[objects]
        if free.any():
            best = int(np.where(free, shares, -1).argmax())
            is_found[objects[best]] = not ignored[best]
            kinds[row] = IGNORED if ignored[best] else RIGHT
        elif on.any():
            kinds[row] = DOUBLE
        elif (shares > ENOUGH).any():
            kinds[row] = WRONG_CLASS
        elif (own & (shares > SOME)).any():
            kinds[row] = BADLY_PLACED


def error_counts(truth: Truth, found: Found, score: float = SCORE) -> dict[str, float]:
    """How many detections of at least this score are of each kind, and how many objects are missed."""
    kinds, is_found = kinds_of(truth, found.at(found.score >= score))
    counts = {name: int((kinds == number).sum()) for number, name in enumerate(KINDS)}
    counted = ~(truth.difficult | truth.crowd)
    return {"score": score, **counts, "missed": int((counted & ~is_found).sum()), "objects": int(counted.sum())}
