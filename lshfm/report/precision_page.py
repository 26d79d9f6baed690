"""Precision over recall of detectors, class by class, as the VOC devkit's rules part hits from false alarms."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lshfm.errors import count
from lshfm.metrics.boxes import Found, Truth
from lshfm.metrics.voc_detection import HIT, IGNORED, counted, judge
from lshfm.report.arms import Arm, drawn_of
from lshfm.report.blocks import Picture, Pictures, Section
from lshfm.report.facts import Run
from lshfm.report.figures import Panel, colour_of, dashes_of, legend_of

POINTS, FEW = 120, 10  # of a curve; fewer than the second are shown as points, too
CLASSES_DRAWN = 20  # those with most objects
WIDTH, HEIGHT = 3.2, 2.3  # inches of a class's panel

Boxes = tuple[Truth, Found]
BoxesOf = Callable[[Run], Boxes | None]  # what a run found on its test images; None where it tells nothing
Judged = tuple[NDArray[np.float64], NDArray[np.int8], int]  # scores and verdicts (d,) of detections, number of objects


def precision_section(arms: Sequence[Arm], boxes_of: BoxesOf) -> Section | None:
    """Curves of each arm's first run that tells its detections: of all classes together, and of each."""
    drawn = [(arm, found) for arm in drawn_of(arms) if (found := _first(arm, boxes_of))]
    if not drawn:
        return None
    classes = next(run.classes for run in drawn[0][0].finished if run.classes)
    judged = [(arm, [judged_of(found, label) for label in range(len(classes))]) for arm, found in drawn]
    objects = np.array([number for _, _, number in judged[0][1]])
    shown = sorted(np.argsort(-objects, kind="stable")[:CLASSES_DRAWN].tolist())
    together = _panel("all classes together", [(arm, _joined(each)) for arm, each in judged])
    own = [_panel(f"{classes[label]}, {count(objects[label], 'object')}", [(arm, each[label]) for arm, each in judged])
           for label in shown if objects[label]]  # fmt: skip
    few = "" if len(shown) == len(classes) else f" Drawn: the {len(shown)} of {len(classes)} classes with most objects."
    return Section(
        "precision", "Precision and recall by class",
        [Pictures([together, *own], legend_of([arm for arm, _ in drawn]), is_dense=True)],
        "Of each network's first run, over its detections from the best score down; a detection is right on an object "
        f"of its class that it overlaps by more than half, once. Difficult objects are left out.{few}",
    )  # fmt: skip


def _first(arm: Arm, boxes_of: BoxesOf) -> Boxes | None:
    return next((found for run in arm.finished if (found := boxes_of(run))), None)


def judged_of(boxes: Boxes, label: int) -> Judged:
    """A class's detections, best first, without those on difficult objects; and its objects that count."""
    truth, found = boxes[0].at(boxes[0].label == label), boxes[1].at(boxes[1].label == label)
    found = found.at(np.argsort(-found.score, kind="stable"))
    verdicts = judge(truth, found)
    kept = verdicts != IGNORED
    return found.score[kept], verdicts[kept], int(counted(truth).sum())


def _joined(judged: Sequence[Judged]) -> Judged:
    """All classes' detections, best first."""
    scores, verdicts = (np.concatenate([each[place] for each in judged]) for place in (0, 1))
    order = np.argsort(-scores, kind="stable")
    return scores[order], verdicts[order], sum(number for _, _, number in judged)


def _panel(title: str, judged: Sequence[tuple[Arm, Judged]]) -> Picture:
    panel = Panel(title, "recall in %", "precision in %", width=WIDTH, height=HEIGHT)
    for arm, (_, verdicts, objects) in judged:
        precision, recall = curve(verdicts, objects)
        look: dict[str, Any] = {"color": colour_of(arm), "linestyle": dashes_of(arm)}
        panel.axes.plot(100 * recall, 100 * precision, marker="." if len(recall) < FEW else None, **look)
    panel.axes.set_xlim(0, 100)
    panel.axes.set_ylim(0, 103)
    return panel.picture()


def curve(verdicts: NDArray[np.int8], objects: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Precision and recall at up to 120 of the hits, best first."""
    ranks = np.flatnonzero(verdicts == HIT) + 1
    chosen = np.unique(np.linspace(0, len(ranks) - 1, min(len(ranks), POINTS)).round().astype(np.int64))
    hits = chosen + 1
    return hits / ranks[chosen], hits / max(objects, 1)
