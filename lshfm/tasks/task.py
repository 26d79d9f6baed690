"""The contract of a task: all that training, mimicking and evaluation ask of it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from rich.console import RenderableType
from torch import nn

from lshfm.config.build import build
from lshfm.config.catalogue import task_node
from lshfm.config.groups import Dataset, LabelLoss, MimicLoss, Network, Student
from lshfm.config.schema import Training
from lshfm.datasets.loader import Loader
from lshfm.datasets.split import Split
from lshfm.engine.state import Evaluation
from lshfm.errors import InputError, nearest
from lshfm.models.weights import Loaded
from lshfm.objectives.learner import Learner
from lshfm.objectives.mimic import Mimic
from lshfm.objectives.supervised import Supervised
from lshfm.objectives.teacher import Normalisation, Recorded, Teacher
from lshfm.objectives.terms import Terms
from lshfm.report.arms import Arm
from lshfm.report.blocks import Section
from lshfm.tasks.pixels import TrainingData

Arrays = dict[str, np.ndarray]  # by name; the first axis is the images'
Evaluate = Callable[[nn.Module], tuple[Evaluation, Arrays]]
LabelsOfImage = tuple[list[str], list[tuple[str, float, bool]]]
FileWriter = Callable[[Path, Arrays, bool], None]  # (folder, an evaluation's arrays, whether it saw no other images)


class Task(ABC):
    """What is learnt from a data set: labels, networks, losses, evaluation; an option of the group task builds it.

    A network of every task maps images (B, 3, S, S) to (feature, output); a student mimics the feature.
    """

    stages: ClassVar[tuple[str, ...]]  # of mimic: "1" aligns features, "2" learns from labels too
    metrics: ClassVar[tuple[str, ...]]  # what dataset.metric can be
    score: ClassVar[str]  # the leading number's name and its key in reports, as "mAP"
    # How an output (B, C) becomes a probability of each class: sigmoid or softmax; None for other outputs.
    activation: ClassVar[str | None] = None
    gives_boxes: ClassVar[bool] = False  # whether outputs are boxes of objects, as torchvision's detectors give them
    definitions: ClassVar[Mapping[str, str]] = {}  # what each of `metrics` is, in words, for model cards
    has_projection: ClassVar[bool] = True  # whether a student can have a layer to the teacher's feature width
    has_varied_shapes: ClassVar[bool] = False  # whether images differ in shape
    has_one_label: ClassVar[bool] = False  # whether labels are int64 (n,), a class for each image

    def check(self, dataset: Dataset) -> None:
        """Raise InputError for settings of a data set that the task does not have."""
        if dataset.metric not in self.metrics:
            near = nearest(dataset.metric, self.metrics)
            raise InputError(f"dataset.metric={dataset.metric}: must be one of {', '.join(self.metrics)}{near}")

    def check_losses(self, kinds: Mapping[str, str]) -> None:
        """Raise InputError for mimicking losses that take other labels. kinds: of each loss, by its option."""
        for name, kind in kinds.items():
            if kind in ("correct", "labelled") and not self.has_one_label:
                raise InputError(f"loss={name} is for one label an image, which this data set's task has not")

    @abstractmethod
    def read(self, dataset: Dataset, names: Sequence[str]) -> list[Split]:
        """The named splits, their labels as this task has them. Raises InputError."""

    @abstractmethod
    def training_data(self, train: Split, test: Split, settings: Training, device: torch.device) -> TrainingData:
        """Both splits as batches; all ranks together, each has its share."""

    @abstractmethod
    def evaluation_batches(
        self, split: Split, dataset: Dataset, device: torch.device, *, workers: int | None, batch_size: int,
        channels_last: bool,
    ) -> Loader:  # fmt: skip
        """A split's images in order, each once, over all ranks."""

    @abstractmethod
    def describe(self, split: Split, used: int, purpose: str) -> str:
        """A line for the log on a split, of which `used` images can be used."""

    def no_labels(self, images: int, classes: int) -> np.ndarray:
        """Labels of images of which none are known, as this task has them: their outputs alone are evaluated."""
        return np.full((images, classes), -1, np.int8)

    def shows(self, split: Split) -> np.ndarray | None:  # noqa: ARG002
        """Bool (n, K), what a held-out part of a split should show like the rest: its classes; None for chance."""
        return None

    def absent(self, split: Split, part: np.ndarray) -> list[str]:
        """The classes that none of these images of a split, int64 (m,), shows, so that they have no score there."""
        shown = self.shows(split)
        return [] if shown is None else [split.classes[c] for c in np.flatnonzero(~shown[part].any(axis=0))]

    @abstractmethod
    def network(
        self, network: Network, classes: Sequence[str], size: int, *, at: str = "model"
    ) -> tuple[nn.Module, Loaded | None]:
        """A network for these classes that keeps the task's contract, and what its weights came from.

        at: the group that it was chosen from, for messages.

        Raises InputError if it does not, if it cannot take images of this size, or if its weights do not fit.
        """

    @abstractmethod
    def label_loss(
        self, loss: LabelLoss, parts: int, *, at: str, labels: np.ndarray | None = None
    ) -> tuple[str, nn.Module]:
        """The label loss's name in the log, and the loss: a module that maps (output, labels) to a scalar.

        parts: so many parts of a batch, over which a step averages the loss: ranks x accumulate. at: the key whose
        group it was chosen from, for messages. labels: of all images to train on, (n, ...); a loss that has a method
        `set_up` is told them. Raises InputError for settings that the loss, or these labels, do not allow.
        """

    def supervised(
        self, network: nn.Module, loss: nn.Module, name: str, *, freeze: Sequence[str], precision: str
    ) -> Learner:
        """The objective of a network that learns from labels alone. loss, name: as `label_loss` gives them."""
        return Supervised(network, loss, name, freeze=freeze, precision=precision)

    def teacher(self, network: nn.Module, *, precision: str, normalisation: Normalisation | None) -> Teacher:
        """A frozen network as objectives take it."""
        return Teacher(network, precision=precision, normalisation=normalisation)

    def constants(self, network: nn.Module) -> dict[str, Any]:  # noqa: ARG002
        """Settings of a network, by name, that change its outputs and are no weights: identities of runs have them."""
        return {}

    def check_mimicking(self, loss: MimicLoss, student: Student) -> None:  # noqa: ARG002
        """Raise InputError for settings of the mimicking losses that the task, or this student, does not have."""
        if loss.of_boxes and (loss.of_boxes.positions != "all" or loss.of_boxes.beta_warmup):
            raise InputError("loss.positions and loss.beta_warmup are for the task detection")

    def mimic(
        self, network: nn.Module, teacher: Teacher | Recorded, loss: MimicLoss, *, label_loss: nn.Module,
        label_name: str, on_features: Terms, on_logits: Terms, others: Mapping[str, Terms], freeze: Sequence[str],
        precision: str,
    ) -> Learner:  # fmt: skip
        """The objective of stage 2. on_features, on_logits, others: the chosen losses of each kind."""
        return Mimic(
            network, teacher, label_loss=label_loss, label_name=label_name, gamma=loss.gamma,
            feature_terms=on_features, logit_terms=on_logits, other_terms=others, freeze=freeze, precision=precision,
        )  # fmt: skip

    def pools(self, labels: np.ndarray) -> list[np.ndarray]:  # noqa: ARG002
        """Sets of images, by their rows in `labels` (n, ...), that balanced sampling draws from equally often.

        Raises InputError for a task without classes to balance.
        """
        raise InputError("balanced=true: the data set's task has no classes to balance")

    @abstractmethod
    def evaluator(
        self, loader: Loader, split: Split, metric: str, precision: str, *, features: bool = False
    ) -> Evaluate:
        """A function that measures a network on `loader`, all ranks together.

        Every rank is told the evaluation. Rank 0 has the arrays worth keeping, one row an image, as `ids` and
        `targets`, with `features` (n, D) where asked for; other ranks have none.
        """

    def at_threshold(self, threshold: float) -> "Task":
        """The task with labels predicted from this probability on. Raises InputError for a task without thresholds."""
        raise InputError(f"threshold={threshold:g}: the data set's task has none, so leave it out")

    def mean_loss(self, loss: nn.Module, arrays: Arrays) -> float | None:  # noqa: ARG002
        """The label loss of what the evaluator kept, mean over the images; None where a task does not tell it.

        loss: as `label_loss` builds it for a batch in one part.
        """
        return None

    @abstractmethod
    def chance(self, arrays: Arrays) -> float | None:
        """The score that an evaluation's targets give to an output without any knowledge; None if there is none."""

    @abstractmethod
    def tables(self, report: dict[str, Any]) -> RenderableType:
        """An evaluation's report as tables for the console."""

    def write_tables(self, folder: Path, report: dict[str, Any]) -> None:  # noqa: ARG002
        """Write what of an evaluation's report is for other programs, beside results.json."""
        return

    def definition(self, metric: str) -> str:  # noqa: ARG002
        """What a metric of `metrics` is, in words for a report; "" where there is nothing to add to its name."""
        return ""

    def sections(self, arms: Sequence[Arm]) -> list[Section]:  # noqa: ARG002
        """The parts of a report that only this task has, of runs by setting."""
        return []

    def examples(self, dataset: Dataset, arms: Sequence[Arm]) -> tuple[Section | None, str | None] | None:  # noqa: ARG002
        """A part of a report with images, in place of those that gain and lose most, and why pictures are missing."""
        return None

    def losses_of_images(self, arrays: Arrays) -> np.ndarray | None:  # noqa: ARG002
        """How wrong an evaluation's outputs are for each image, (n,), to pick a report's examples by; None: none."""
        return None

    def labels_of_image(self, arrays: Arrays, row: int, classes: Sequence[str]) -> LabelsOfImage:  # noqa: ARG002
        """The true labels of an image, and the predicted ones with probability and whether they are right."""
        return [], []

    def file_writer(self, dataset: Dataset, split: Split) -> FileWriter | None:  # noqa: ARG002
        """A function that writes an evaluation in another tool's format, if the data set asks for it; else None.

        Raises InputError for images whose ids that format cannot hold.
        """
        return None


def open_task(dataset: Dataset, folders: Sequence[Path] = ()) -> Task:
    """The task that a data set names. folders: of --config-dir, with tasks of the user's own.

    Raises InputError if there is none of that name, or if the data set's settings do not suit it.
    """
    try:
        node = task_node(dataset.task, folders)
    except InputError as error:
        raise InputError(f"dataset.{error}") from error
    task: Task = build(node)
    task.check(dataset)
    return task
