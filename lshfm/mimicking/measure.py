"""Compares a student with its teacher: angle, length and hash bits of their features, and both scores."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from lshfm.console import logger, show_tables, shown
from lshfm.datasets.loader import Loader
from lshfm.datasets.split import Split
from lshfm.engine.state import Evaluation
from lshfm.errors import InputError, RunFailed, at
from lshfm.losses.lsh import draw_weights, hash_bias
from lshfm.metrics.mimicry import compare, constant_bits, measure, own_medians_agreement
from lshfm.mimicking.hashing import classifier_std
from lshfm.mimicking.kept_outputs import KeptOutputs
from lshfm.objectives.teacher import Teacher
from lshfm.ranks.group import PeerLost, on_main
from lshfm.report.features import student_row, table, teacher_row
from lshfm.runs.facts import BEFORE
from lshfm.runs.folder import RunFolder
from lshfm.runs.memory import enough_to_evaluate
from lshfm.runs.predictions import write_predictions
from lshfm.tasks.task import Arrays, Task

# One set of hash functions for all methods, weights of the teacher's deviation, bias: median over the evaluated split.
REFERENCE_NUM, REFERENCE_SEED = 2048, 0
CHANCE = 50  # % of the hash bits of features at a right angle that are equal


@dataclass(frozen=True)
class Reference:
    """A teacher on one split: its evaluation and features, and the hash functions that the bits are computed with."""

    evaluation: Evaluation
    features: np.ndarray  # (n, D)
    weights: np.ndarray  # (N, D)
    bias: np.ndarray  # (N,)


class ComparedEvaluator:
    """An evaluator of students that compares them to their teacher, which is evaluated once, at first use.

    All ranks evaluate together; rank 0 has the outputs and measures, and tells the others.

    labels: whether the student's outputs are evaluated too; after a stage 1 its classifier is untrained. kept: where
    the teacher's outputs are kept, and taken from if they are there.
    """

    def __init__(
        self, task: Task, loader: Loader, split: Split, metric: str, teacher: Teacher, name: str, *, labels: bool,
        kept: KeptOutputs | None = None,
    ) -> None:  # fmt: skip
        self.task, self.teacher, self.name, self.labels, self.kept = task, teacher, name, labels, kept
        self._evaluate = task.evaluator(loader, split, metric, teacher.precision, features=True)
        self._reference: Reference | None = None  # at rank 0
        self._is_prepared = False

    def prepare(self) -> None:
        """Evaluate the teacher and log its score, once. Raises InputError if its outputs are not finite."""
        if self._is_prepared:
            return
        evaluation, arrays = self._outputs()
        on_main(lambda: self._refer_to(evaluation, arrays), "comparing features")
        self._is_prepared = True

    def _outputs(self) -> tuple[Evaluation, Arrays]:
        """The teacher's evaluation and, at rank 0, its arrays: those that are kept, else computed and kept."""
        arrays: Arrays = {}

        def recall() -> Evaluation | None:
            found = self.kept.read() if self.kept else None
            arrays.update(found[1] if found else {})
            return found[0] if found else None

        if (evaluation := on_main(recall)) is not None:
            return evaluation, arrays
        try:
            evaluation, arrays = self._evaluate(self.teacher.on_images)
        except RunFailed as error:  # logits that are not finite, to which such features lead
            if isinstance(error, PeerLost):
                raise
            raise InputError(f"the teacher {self.name} cannot be mimicked: {error}") from error
        if self.kept:
            on_main(partial(self.kept.write, evaluation, arrays))
        return evaluation, arrays

    def _refer_to(self, evaluation: Evaluation, arrays: Arrays) -> None:
        features = arrays["features"]
        with at("loss"):
            drawn = draw_weights(REFERENCE_NUM, features.shape[1], classifier_std(self.teacher), REFERENCE_SEED)
        bias = hash_bias(torch.from_numpy(features), drawn, "median")
        logger.info("teacher %s: %s %s", self.name, evaluation.name, shown(evaluation.score))
        self._reference = Reference(evaluation, features, drawn.numpy(), bias.numpy())
        _warn_if_untrained(self.name, self._reference, self.task.chance(arrays))

    def __call__(self, student: nn.Module) -> tuple[Evaluation, Arrays]:
        """The student's evaluation beside its teacher, and its arrays with `angle`, `relative_length`, `equal_bits`."""
        self.prepare()
        evaluation, arrays = self._evaluate(student)
        compared: Arrays = {}

        def measured() -> Evaluation:
            features, reference = arrays.pop("features"), self._reference
            assert reference
            compared.update(compare(features, reference.features, reference.weights, reference.bias))
            means = measure(features, reference.features, compared)
            by_own = own_medians_agreement(features, reference.features, reference.weights)
            return self._with(evaluation, means | {"hash_agreement_own_medians": by_own}, reference)

        return on_main(measured, "comparing features"), arrays | compared

    def _with(self, evaluation: Evaluation, means: Mapping[str, Any], reference: Reference) -> Evaluation:
        """The student's evaluation, completed by the `means` of the comparison and the teacher's score."""
        score = self.task.score
        mimicry = {**means, f"teacher_{score}": reference.evaluation.score}
        beside = {
            "angle": means["angle"], "length": means["relative_length"], "hash agreement": means["hash_agreement"],
            f"teacher {score}": reference.evaluation.score,
        }  # fmt: skip
        said = (f"teacher {score}",)  # by `prepare`
        if self.labels:
            report = evaluation.report | {"mimicry": mimicry}
            return replace(evaluation, report=report, beside=beside, unchanging=said)
        agreement = beside.pop("hash agreement")
        return Evaluation("hash agreement", agreement, {"mimicry": mimicry}, beside, unchanging=said)


def start_comparing(folder: RunFolder, evaluate: ComparedEvaluator, student: nn.Module, eval_batch_size: int) -> None:
    """Evaluate the teacher, then keep how the student compares before its first step, for reports; all ranks together.

    The teacher comes first: its score may be none worth mimicking. A run that goes on has the file, or learnt before
    there was one. Evaluation draws no random numbers: none of the run's depends on it.
    """
    evaluate.prepare()
    path = folder.path / BEFORE
    if not on_main(lambda: not folder.lasts() and not path.exists()):
        return
    with enough_to_evaluate(eval_batch_size):
        _, arrays = evaluate(student)
    student.train()
    kept = ("ids", "angle", "relative_length", "equal_bits")
    on_main(lambda: write_predictions(path, {name: arrays[name] for name in kept}, ()), "keeping the student's start")


def show(task: Task, teacher: str, student: str, report: Mapping[str, Any]) -> None:
    """Print a table of student and teacher, and warn if the teacher scores below its student."""
    score = task.score
    rows = [(f"teacher {teacher}", teacher_row(report, score)), (f"student {student}", student_row(report, score))]
    show_tables(table(rows, score))
    score_s, score_t = report.get(score), report["mimicry"][f"teacher_{score}"]
    if score_s is not None and score_t is not None and score_t < score_s:
        logger.warning(
            "the teacher %s scores %s, below its student's %s: mimicking it may hold the student back",
            teacher, shown(score_t), shown(score_s),
        )  # fmt: skip


def warn_if_apart(report: Mapping[str, Any]) -> None:
    """Warn of a student whose hash bits agree with its teacher's hardly more than by chance."""
    agreement = report["mimicry"].get("hash_agreement_own_medians")  # older reports lack it
    if agreement is not None and agreement < CHANCE + 5:
        logger.warning(
            "the student's features hardly follow the teacher's: by own medians %s %% of their hash bits are equal, "
            "and by chance %d would be. More epochs or trained weights to start from (student.weights) may help",
            shown(agreement), CHANCE,
        )  # fmt: skip


def _warn_if_untrained(name: str, reference: Reference, chance: float | None) -> None:
    """Warn of a teacher most of whose hash bits (without bias) are constant, or whose score is hardly above chance."""
    constant = constant_bits(reference.features, reference.weights, np.zeros_like(reference.bias))
    if constant > 0.5:
        logger.warning(
            "%.0f %% of the hash bits (without bias) of the teacher %s are the same for every image: its features "
            "hardly vary. Is it trained?", 100 * constant, name,
        )  # fmt: skip
    score = reference.evaluation.score
    if score is not None and chance is not None and score - chance < 0.05 * (100 - chance):
        logger.warning("the teacher %s scores %s, and chance %.2f: is it trained?", name, shown(score), chance)
