"""The task of single-label classification: one class in each image."""

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import RenderableType
from torch import nn

from lshfm.config.groups import Dataset, LabelLoss
from lshfm.datasets.single import pools_of, single_labels
from lshfm.datasets.split import Split
from lshfm.engine.evaluate import Predictions
from lshfm.engine.state import Evaluation
from lshfm.errors import InputError, count
from lshfm.files.write import write_text
from lshfm.metrics.decisions import softmax
from lshfm.metrics.singlelabel import DEFINITIONS, confusion_matrix, losses_of_images, measure
from lshfm.report import singlelabel as report_of
from lshfm.report.arms import Arm
from lshfm.report.blocks import Section
from lshfm.tasks.images import ImageTask, set_up
from lshfm.tasks.losses import mean_loss
from lshfm.tasks.task import Arrays, LabelsOfImage

LIKELIEST = 3  # classes that a report tells of an image


class SingleLabel(ImageTask):
    """Labels are int64 (n,), places in the list of classes; outputs logits (B, C)."""

    stages = ("2",)
    metrics = tuple(DEFINITIONS)
    definitions = DEFINITIONS
    score = "accuracy"
    activation = "softmax"
    has_one_label = True

    def __init__(self) -> None:
        self._num_classes: int | None = None  # of the splits read last

    def check(self, dataset: Dataset) -> None:
        """Raise InputError for another metric, and for the devkit's files, which are lists of objects."""
        super().check(dataset)
        if dataset.devkit:
            raise InputError("dataset.devkit=true: the VOC devkit has no files for one label an image; leave it out")

    def read(self, dataset: Dataset, names: Sequence[str]) -> list[Split]:
        """The named splits, with the same classes. Raises InputError for images that have not one label."""
        splits = super().read(dataset, names)
        single = {id(split): replace(split, labels=single_labels(split, dataset.name)) for split in splits}
        self._num_classes = len(splits[0].classes)
        return [single[id(split)] for split in splits]  # where nothing is to be tested on, both are one

    def describe(self, split: Split, used: int, purpose: str) -> str:
        """A line for the log: images, classes, images a class."""
        there = np.bincount(split.labels, minlength=len(split.classes))
        images, classes = count(len(split), "image"), count(len(split.classes), "class", "classes")
        span = f"{there.min()}" if there.min() == there.max() else f"{there.min()} to {there.max()}"
        return f"{purpose} {split.name}: {used} of {images}, {classes} of {span} images each"

    def shows(self, split: Split) -> np.ndarray:
        """Bool (n, C): the class of each image."""
        shown: np.ndarray = split.labels[:, None] == np.arange(len(split.classes))
        return shown

    def no_labels(self, images: int, classes: int) -> np.ndarray:  # noqa: ARG002
        """No class of each image."""
        return np.full(images, -1, np.int64)

    def absent(self, split: Split, part: np.ndarray) -> list[str]:
        """As every task, without a table of images and classes: of ImageNet that has 1.28e9 entries."""
        there = np.bincount(split.labels[part], minlength=len(split.classes))
        return [split.classes[c] for c in np.flatnonzero(there == 0)]

    def label_loss(
        self, loss: LabelLoss, parts: int, *, at: str, labels: np.ndarray | None = None
    ) -> tuple[str, nn.Module]:
        """As every task; a loss's `set_up` is told the labels (n,) and the number of classes."""
        title, built = super().label_loss(loss, parts, at=at)
        if labels is None or self._num_classes is None:
            return title, built
        set_up(built, title, torch.from_numpy(labels), self._num_classes, at=at)
        require_suits(built, title, torch.zeros(1, self._num_classes), torch.from_numpy(labels[:1]), at=at)
        return title, built

    def evaluation(self, outputs: Predictions, split: Split, metric: str) -> Evaluation:
        """Every single-label metric."""
        report = measure(outputs.logits, outputs.labels, split.classes, metric)
        return Evaluation(f"{metric} accuracy", report["accuracy"], report)

    def pools(self, labels: np.ndarray) -> list[np.ndarray]:
        """The images of each class that has any."""
        return list(pools_of(labels))

    def mean_loss(self, loss: nn.Module, arrays: Arrays) -> float | None:
        """As in training."""
        return mean_loss(loss, arrays["logits"], arrays["targets"])

    def chance(self, arrays: Arrays) -> float | None:
        """The top-1, in percent, of the answer that is right most often: the share of the most frequent class."""
        targets = arrays["targets"]
        return float(100 * np.bincount(targets).max() / len(targets)) if len(targets) else 0.0

    def tables(self, report: dict[str, Any]) -> RenderableType:
        """Tables of each class, the most frequent mistakes, and all metrics."""
        return report_of.tables(report)

    def definition(self, metric: str) -> str:
        """What a metric is the share of."""
        return f"{DEFINITIONS[metric]}, in percent"

    def sections(self, arms: Sequence[Arm]) -> list[Section]:
        """All metrics, accuracy by class, confusions."""
        from lshfm.report.singlelabel_page import sections  # with a library that only reports need

        return sections(arms)

    def losses_of_images(self, arrays: Arrays) -> np.ndarray:
        """The cross-entropy of each image."""
        return losses_of_images(arrays["logits"], arrays["targets"])

    def labels_of_image(self, arrays: Arrays, row: int, classes: Sequence[str]) -> LabelsOfImage:
        """The image's class, and the likeliest ones."""
        shares, target = softmax(arrays["logits"][row].astype(np.float64)), int(arrays["targets"][row])
        likeliest = np.argsort(-shares, kind="stable")[:LIKELIEST].tolist()
        true = [classes[target]] if target >= 0 else []
        return true, [(classes[i], float(shares[i]), i == target) for i in likeliest]

    def write_tables(self, folder: Path, report: dict[str, Any]) -> None:
        """Write confusion.csv: a row a class, a column for each class that its images were told to be."""
        names = [row["class"] for row in report["per_class"]]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["class", *names])
        writer.writerows([name, *row] for name, row in zip(names, confusion_matrix(report).tolist(), strict=True))
        write_text(folder / "confusion.csv", text.getvalue())


def require_suits(loss: nn.Module, title: str, logits: torch.Tensor, labels: torch.Tensor, *, at: str) -> None:
    """InputError for a label loss that takes labels of another kind than these, which its assertions tell."""
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            loss(logits, labels)
    except AssertionError as error:
        raise InputError(
            f"{at}={title} takes labels of another kind than this data set's task has ({error})"
        ) from error
