"""The task of multi-label classification: any number of classes in an image, ranked class by class."""

from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import RenderableType
from torch import nn

from lshfm.config.groups import Dataset
from lshfm.datasets.split import Split
from lshfm.engine.evaluate import Predictions
from lshfm.engine.state import Evaluation
from lshfm.errors import InputError, count, printable
from lshfm.files.names import distinct, plain
from lshfm.files.write import write_text
from lshfm.metrics.average_precision import DEFINITIONS
from lshfm.metrics.decisions import sigmoid
from lshfm.metrics.multilabel import devkit_lines, losses_of_images, measure
from lshfm.report import multilabel as report_of
from lshfm.report.arms import Arm
from lshfm.report.blocks import Section
from lshfm.tasks.images import ImageTask
from lshfm.tasks.losses import mean_loss
from lshfm.tasks.task import Arrays, FileWriter, LabelsOfImage


class MultiLabel(ImageTask):
    """Labels are int8 (n, C): +1 present, 0 only difficult objects of the class, -1 absent; outputs logits (B, C)."""

    stages = ("1", "2")
    metrics = tuple(DEFINITIONS)
    definitions = {
        "voc2010": "mean over the classes of the area under the precision made monotone from the right",
        "voc2007": "mean over the classes of that precision at 11 recalls",
        "uninterpolated": "mean over the classes of the mean precision at each positive's rank",
    }
    score = "mAP"
    activation = "sigmoid"
    threshold = 0.5  # the probability from which a label counts as predicted

    def at_threshold(self, threshold: float) -> "MultiLabel":
        """The task with another threshold."""
        other = copy(self)
        other.threshold = threshold
        return other

    def read(self, dataset: Dataset, names: Sequence[str]) -> list[Split]:
        """The named splits, with the same classes. Raises InputError for labels of another kind."""
        splits = super().read(dataset, names)
        for split in splits:
            labels, shape = split.labels, (len(split), len(split.classes))
            if labels.dtype != np.int8 or labels.shape != shape or not np.isin(labels, (-1, 0, 1)).all():
                raise InputError(
                    f"the task multilabel takes labels that are int8 {shape} of -1, 0 and 1; those of split "
                    f"'{split.name}' of {dataset.name} are {labels.dtype} {labels.shape}; dataset.task=NAME is another"
                )
        return splits

    def describe(self, split: Split, used: int, purpose: str) -> str:
        """A line for the log: images, classes, positive labels an image, difficult labels."""
        positives, difficult = int((split.labels > 0).sum()), int((split.labels == 0).sum())
        images, classes = count(len(split), "image"), count(len(split.classes), "class", "classes")
        return (
            f"{purpose} {split.name}: {used} of {images}, {classes}, "
            f"{positives / max(len(split), 1):.2f} positive labels an image, {difficult} difficult ones"
        )

    def shows(self, split: Split) -> np.ndarray:
        """Bool (n, C): the classes of each image, those with difficult objects alone left out."""
        return split.labels > 0

    def evaluation(self, outputs: Predictions, split: Split, metric: str) -> Evaluation:
        """Every multi-label metric."""
        report = measure(outputs.logits, outputs.labels, split.classes, metric, self.threshold)
        return Evaluation(f"{metric} mAP", report["mAP"], report)

    def pools(self, labels: np.ndarray) -> list[np.ndarray]:
        """The images of each class that has any, and those of none; a difficult label counts, as in training."""
        there = labels >= 0
        sets = [*there.T, ~there.any(axis=1)]
        return [np.flatnonzero(each) for each in sets if each.any()]

    def mean_loss(self, loss: nn.Module, arrays: Arrays) -> float | None:
        """As in training, where a difficult label counts as the loss says."""
        return mean_loss(loss, arrays["logits"], arrays["targets"])

    def chance(self, arrays: Arrays) -> float | None:
        """The mAP, in percent, of a random ranking: the share of positives over the classes that have any."""
        targets = arrays["targets"]
        positives, counted = (targets > 0).sum(axis=0), (targets != 0).sum(axis=0)
        rates = positives[positives > 0] / counted[positives > 0]
        return float(100 * rates.mean()) if len(rates) else 0.0

    def tables(self, report: dict[str, Any]) -> RenderableType:
        """Tables of the AP of each class, the means, precision and recall at a threshold."""
        return report_of.tables(report)

    def definition(self, metric: str) -> str:
        """What a definition of AP takes the mean of."""
        return f"mean over the classes of average precision, {report_of.DEFINITIONS[metric]}, in percent"

    def sections(self, arms: Sequence[Arm]) -> list[Section]:
        """AP by class; precision, recall and thresholds."""
        from lshfm.report.multilabel_page import sections  # with a library that only reports need

        return sections(arms)

    def losses_of_images(self, arrays: Arrays) -> np.ndarray:
        """The binary cross-entropy of each image."""
        return losses_of_images(arrays["logits"], arrays["targets"])

    def labels_of_image(self, arrays: Arrays, row: int, classes: Sequence[str]) -> LabelsOfImage:
        """Labels from the threshold on, else the likeliest alone; a difficult one is right."""
        logits, targets = arrays["logits"][row], arrays["targets"][row]
        shares = sigmoid(logits.astype(np.float64))
        order = np.argsort(-shares, kind="stable").tolist()
        found = [i for i in order if shares[i] >= self.threshold] or order[:1]
        return [classes[i] for i in np.flatnonzero(targets > 0).tolist()], [
            (classes[i], float(shares[i]), bool(targets[i] >= 0)) for i in found
        ]

    def file_writer(self, dataset: Dataset, split: Split) -> FileWriter | None:
        """A function that writes the VOC devkit's result files; comp1 is for networks that saw VOC images alone."""
        if not dataset.devkit:
            return None
        if several := [id_ for id_ in split.ids if len(id_.split()) != 1]:
            raise InputError(
                f"{printable(several[0])!r}: no id with blanks has a place in the VOC devkit's files; "
                "dataset.devkit=false"
            )

        def write(folder: Path, arrays: Arrays, saw_no_others: bool) -> None:
            start = f"{'comp1' if saw_no_others else 'comp2'}_cls_{plain(split.name)}"
            for column, label in enumerate(distinct(split.classes)):
                lines = devkit_lines(list(arrays["ids"]), arrays["logits"][:, column])
                write_text(folder / "devkit" / f"{start}_{label}.txt", lines)

        return write
