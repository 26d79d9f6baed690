"""Measuring a student beside its teacher: the angle, length and hash bits of their features, and both mAPs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from lshfm.console import console, logger, shown
from lshfm.datasets.loader import Loader
from lshfm.engine.evaluate import Predictions
from lshfm.engine.state import Evaluation
from lshfm.errors import InputError, RunFailed
from lshfm.losses.lsh import draw_weights, hash_bias
from lshfm.metrics.mimicry import constant_bits, measure
from lshfm.mimicking.hashing import classifier_std
from lshfm.objectives.teacher import Teacher
from lshfm.ranks.group import PeerLost, on_main
from lshfm.report.features import student_row, table, teacher_row
from lshfm.report.multilabel import WIDTH
from lshfm.tasks import networks

# One fixed set of hash functions for every method: teacher's deviation, median over the evaluated split.
REFERENCE_NUM, REFERENCE_SEED = 2048, 0


@dataclass(frozen=True)
class Reference:
    """A teacher on one split: its outputs, its evaluation and the hash functions that bits are compared by."""

    evaluation: Evaluation
    features: np.ndarray  # (n, D)
    weights: np.ndarray  # (N, D)
    bias: np.ndarray  # (N,)


class Beside:
    """An evaluator of students beside their teacher, which is evaluated once, at first use.

    All ranks evaluate together; rank 0 has the outputs and measures, and tells the others.

    labels: whether the student's logits mean something; a stage 1 leaves the classifier untrained.
    """

    def __init__(
        self, loader: Loader, classes: Sequence[str], metric: str, teacher: Teacher, name: str, *, labels: bool
    ) -> None:
        self.teacher, self.name, self.labels = teacher, name, labels
        self._evaluate = networks.make_evaluator(loader, classes, metric, teacher.precision, features=True)
        self._reference: Reference | None = None  # at rank 0
        self._is_prepared = False

    def prepare(self) -> None:
        """Evaluate the teacher, which the log is told, unless that was done before."""
        if self._is_prepared:
            return
        try:
            evaluation, predictions = self._evaluate(self.teacher)
        except RunFailed as error:  # outputs that are not finite, as features that are not give
            if isinstance(error, PeerLost):
                raise
            raise InputError(f"the teacher {self.name} cannot be mimicked: {error}") from error
        on_main(lambda: self._keep(evaluation, predictions))
        self._is_prepared = True

    def _keep(self, evaluation: Evaluation, predictions: Predictions | None) -> None:
        features = _features(predictions)
        drawn = draw_weights(REFERENCE_NUM, features.shape[1], classifier_std(self.teacher), REFERENCE_SEED)
        bias = hash_bias(torch.from_numpy(features), drawn, "median")
        logger.info("teacher %s: %s %s", self.name, evaluation.name, shown(evaluation.score))
        self._reference = Reference(evaluation, features, drawn.numpy(), bias.numpy())
        assert predictions
        _warn_if_untrained(self.name, self._reference, predictions.labels)

    def __call__(self, student: nn.Module) -> Evaluation:
        """The student's evaluation, with what compares it to its teacher."""
        return self.compare(student)[0]

    def compare(self, student: nn.Module) -> tuple[Evaluation, Predictions | None]:
        """The same with the student's outputs, at rank 0."""
        self.prepare()
        own, predictions = self._evaluate(student)
        return on_main(lambda: self._measured(own, _features(predictions))), predictions

    def _measured(self, own: Evaluation, features: np.ndarray) -> Evaluation:
        reference = self._reference
        assert reference
        found = measure(features, reference.features, reference.weights, reference.bias)
        mimicry: dict[str, Any] = found | {"teacher_mAP": reference.evaluation.score}
        beside = {name: mimicry[key] for name, key in SHOWN.items()}
        if self.labels:
            return Evaluation(own.name, own.score, own.report | {"mimicry": mimicry}, beside)
        agreement = beside.pop("hash agreement")
        return Evaluation("hash agreement", agreement, {"mimicry": mimicry}, beside)


SHOWN = {
    "angle": "angle",
    "length": "relative_length",
    "hash agreement": "hash_agreement",
    "teacher mAP": "teacher_mAP",
}


def show(teacher: str, student: str, report: dict[str, Any]) -> None:
    """Print the table of the two."""
    rows = table([(f"teacher {teacher}", teacher_row(report)), (f"student {student}", student_row(report))])
    console.print(rows, width=max(console.width, WIDTH), crop=False)


def warn_if_better(name: str, report: Mapping[str, Any]) -> None:
    """Say that a teacher is worse than the student that `report` is of."""
    student, teacher = report.get("mAP"), report["mimicry"]["teacher_mAP"]
    if student is not None and teacher is not None and teacher < student:
        logger.warning(
            "the teacher %s scores %s, below its student's %s: mimicking it may hold the student back",
            name, shown(teacher), shown(student),
        )  # fmt: skip


def _features(predictions: Predictions | None) -> np.ndarray:
    assert predictions
    assert predictions.features is not None
    return predictions.features


def _warn_if_untrained(name: str, reference: Reference, labels: np.ndarray) -> None:
    """Two signs: hash bits without bias that are the same for every image, and a score hardly above chance."""
    constant = constant_bits(reference.features, reference.weights, np.zeros_like(reference.bias))
    if constant > 0.5:
        logger.warning(
            "%.0f %% of the hash bits (without bias) of the teacher %s are the same for every image: its features "
            "hardly vary. Is it trained?", 100 * constant, name,
        )  # fmt: skip
    score, chance = reference.evaluation.score, _chance(labels)
    if score is not None and score - chance < 0.05 * (100 - chance):
        logger.warning("the teacher %s scores %s, and chance %.2f: is it trained?", name, shown(score), chance)


def _chance(labels: np.ndarray) -> float:
    """The mAP, in percent, of a random ranking: the share of positives (n, C), over the classes that have any."""
    positives, counted = (labels > 0).sum(axis=0), (labels != 0).sum(axis=0)
    rates = positives[positives > 0] / counted[positives > 0]
    return float(100 * rates.mean()) if len(rates) else 0.0
