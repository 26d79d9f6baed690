"""A task of one's own: classes in an order, as grades, where one beside the right one is good enough."""

from typing import Any

import numpy as np
from torch import nn

from lshfm.datasets.loader import Loader
from lshfm.datasets.split import Split
from lshfm.engine.state import Evaluation
from lshfm.metrics.singlelabel import confusion_matrix
from lshfm.tasks.singlelabel import SingleLabel
from lshfm.tasks.task import Arrays, Evaluate


class Graded(SingleLabel):
    """As single-label classification, with another leading metric."""

    metrics = ("within_one",)
    definitions = {"within_one": "share of images told to be of the right class or of one beside it"}
    score = "within one"

    def evaluator(self, loader: Loader, split: Split, metric: str, precision: str, **features: bool) -> Evaluate:
        """Everything that single-label classification measures, and the metric."""
        measured = super().evaluator(loader, split, "top1", precision, **features)

        def evaluate(network: nn.Module) -> tuple[Evaluation, Arrays]:
            evaluation, arrays = measured(network)
            report: dict[str, Any] = dict(evaluation.report)
            table = confusion_matrix(report)  # (C, C): a row a class, a column for what its images were told to be
            beside = np.abs(np.subtract.outer(np.arange(len(table)), np.arange(len(table)))) <= 1
            report["within one"] = float(100 * table[beside].sum() / table.sum())
            return Evaluation(metric, report["within one"], report), arrays

        return evaluate
