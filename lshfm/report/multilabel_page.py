"""A report's section on multi-label classification: AP by class, precision and recall, thresholds."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lshfm.metrics.decisions import sigmoid
from lshfm.report import classes_page
from lshfm.report.arms import Arm, drawn_of
from lshfm.report.blocks import Block, Picture, Pictures, Section, Text
from lshfm.report.facts import Arrays, Run
from lshfm.report.figures import Panel, colour_of, dashes_of, legend_of, short

THRESHOLDS = np.linspace(0.02, 0.98, 49)
POINTS = 120  # of a curve
CLASSES_DRAWN = 6  # with precision-recall curves of their own

Floats = NDArray[np.float64]


def sections(arms: Sequence[Arm]) -> list[Section]:
    """AP by class with differences, then precision, recall and thresholds."""
    found = [by_class(arms), _decisions(arms)]
    return [section for section in found if section]


def by_class(arms: Sequence[Arm]) -> Section | None:
    """AP of each class by the leading definition, from reports with `ap` by class and definition; None without."""
    return classes_page.by_class(arms, _aps, "average precision", "AP", "In percent, by the leading metric")


def _aps(run: Run) -> dict[str, Any]:
    """AP by class, by the definition that leads."""
    by_class, metric = run.report.get("ap"), run.report.get("metric")
    if not isinstance(by_class, dict) or not isinstance(metric, str):
        return {}
    return {name: values.get(metric) for name, values in by_class.items() if isinstance(values, dict)}


def _decisions(arms: Sequence[Arm]) -> Section | None:
    drawn = [(arm, run) for arm in drawn_of(arms) if (run := next((r for r in arm.runs if _has_outputs(r)), None))]
    if not drawn:
        return None
    together = [_precision_recall("precision and recall, all labels together", drawn, _all_labels)]
    together += [_over_thresholds(name, drawn) for name in ("OF1", "CF1", "OP", "OR")]
    blocks: list[Block] = [Pictures(together, legend_of([arm for arm, _ in drawn]))]
    if own := [_precision_recall(name, drawn, _of_class(name)) for name in _most_different(drawn)]:
        blocks += [Text("", title="Classes whose curves differ most"), Pictures(own)]
    return Section(
        "decisions", "Precision, recall and thresholds", blocks,
        "Of each method's first seed. OP, OR and OF1 count all labels together, CF1 is of the means over classes; a "
        "label is predicted from the threshold's probability on. Difficult labels are left out.",
    )  # fmt: skip


def _has_outputs(run: Run) -> bool:
    """Whether a run left outputs (n, C) with targets; what is damaged is not drawn."""
    logits, targets = run.arrays.get("logits"), run.arrays.get("targets")
    if logits is None or targets is None or logits.ndim != 2 or not len(logits):
        return False
    is_number = logits.dtype.kind == "f" and targets.dtype.kind in "iu"
    return is_number and logits.shape == targets.shape and logits.shape[1] == len(run.classes)


def _all_labels(run: Run) -> tuple[Floats, Floats]:
    return run.arrays["logits"].ravel(), run.arrays["targets"].ravel()


def _of_class(name: str) -> Callable[[Run], tuple[Floats, Floats]]:
    def column(run: Run) -> tuple[Floats, Floats]:
        if name not in run.classes:
            return np.zeros(0), np.zeros(0)
        where = run.classes.index(name)
        return run.arrays["logits"][:, where], run.arrays["targets"][:, where]

    return column


def _precision_recall(
    title: str, drawn: Sequence[tuple[Arm, Run]], of: Callable[[Run], tuple[Floats, Floats]]
) -> Picture:
    panel = Panel(title if len(title) > 30 else short(title), "recall in %", "precision in %")
    for arm, run in drawn:
        scores, labels = of(run)
        precision, recall = precision_recall_curve(scores, labels)
        if len(precision):
            panel.axes.plot(100 * recall, 100 * precision, color=colour_of(arm), linestyle=dashes_of(arm))
    panel.axes.set_xlim(0, 100)
    panel.axes.set_ylim(0, 103)
    return panel.picture()


def precision_recall_curve(scores: NDArray[Any], labels: NDArray[Any]) -> tuple[Floats, Floats]:
    """Precision and recall at up to 120 ranks, from scores (n,) and labels (n,) of 1, 0 (left out) and -1."""
    counted = labels != 0
    order = np.argsort(-scores[counted], kind="stable")
    hits = np.cumsum(labels[counted][order] > 0)
    if not len(hits) or not hits[-1]:
        return np.zeros(0), np.zeros(0)
    at = np.unique(np.searchsorted(hits, np.unique(np.ceil(np.linspace(1, hits[-1], POINTS)))))
    return hits[at] / (at + 1), hits[at] / hits[-1]


def _most_different(drawn: Sequence[tuple[Arm, Run]]) -> list[str]:
    """The classes whose AP differs most between the runs, if there are several runs."""
    aps = [_aps(run) for _, run in drawn]
    spans = {}
    for name in dict.fromkeys(name for each in aps for name in each):
        values = [each[name] for each in aps if isinstance(each.get(name), int | float)]
        spans[name] = max(values) - min(values) if len(values) > 1 else 0.0
    return [name for name in sorted(spans, key=lambda name: -spans[name])[:CLASSES_DRAWN] if spans[name] > 0]


def _over_thresholds(name: str, drawn: Sequence[tuple[Arm, Run]]) -> Picture:
    titles = {"OF1": "F1 of all labels", "CF1": "F1 of the class means", "OP": "precision", "OR": "recall"}
    panel, says = Panel(f"{titles[name]} ({name})", "threshold", "%"), []
    for arm, run in drawn:
        values = at_thresholds(run.arrays)[name]
        panel.axes.plot(THRESHOLDS, values, color=colour_of(arm), linestyle=dashes_of(arm))
        if name in ("OF1", "CF1"):
            best = int(np.nanargmax(values))
            panel.axes.plot(THRESHOLDS[best], values[best], "o", color=colour_of(arm), markersize=4.5)
            says.append(f"{arm.title}: best {values[best]:.2f} at {THRESHOLDS[best]:.2f}")
    panel.axes.set_xlim(0, 1)
    panel.axes.set_ylim(bottom=0)
    return panel.picture("; ".join(says))


def at_thresholds(arrays: Arrays) -> dict[str, Floats]:
    """OP, OR, OF1 and CF1 in percent at each of THRESHOLDS, as metrics.multilabel defines them."""
    probabilities, labels = sigmoid(np.asarray(arrays["logits"], np.float64)), arrays["targets"]
    present, counted = labels > 0, labels != 0
    positives = present.sum(axis=0)
    hits, claims = (
        np.array([((probabilities >= t) & mask).sum(axis=0) for t in THRESHOLDS]) for mask in (present, counted)
    )
    averaged = positives > 0
    by_class = hits[:, averaged] / np.maximum(claims[:, averaged], 1), hits[:, averaged] / positives[averaged]
    class_precision, class_recall = (
        (share.mean(axis=1) if averaged.any() else np.zeros(len(THRESHOLDS))) for share in by_class
    )
    precision = hits.sum(axis=1) / np.maximum(claims.sum(axis=1), 1)
    recall = hits.sum(axis=1) / max(positives.sum(), 1)
    shares = {"OP": precision, "OR": recall, "OF1": _harmonic(precision, recall),
              "CF1": _harmonic(class_precision, class_recall)}  # fmt: skip
    return {name: 100 * share for name, share in shares.items()}


def _harmonic(a: Floats, b: Floats) -> Floats:
    return 2 * a * b / np.maximum(a + b, 1e-12)
