"""The task of object detection: boxes of any number of classes in an image, found with a score each."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import RenderableType
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from lshfm import errors
from lshfm.config.build import build, imported
from lshfm.config.groups import Dataset, LabelLoss, MimicLoss, Network, Student
from lshfm.config.schema import Mimic, Training
from lshfm.datasets.box_loader import BoxLoader
from lshfm.datasets.boxes import COLUMNS, BoxSplit, learnt
from lshfm.datasets.loader import Loader
from lshfm.datasets.split import Split
from lshfm.errors import InputError, count
from lshfm.losses.windows import check_windows
from lshfm.metrics.detection import DEFINITIONS
from lshfm.models.detection.build import DETECTORS
from lshfm.models.detection.weights import backbone_of, load_detector
from lshfm.models.imagenet import resolve
from lshfm.models.weights import Loaded
from lshfm.objectives.detection import Detect, DetectorTeacher, MimicDetect
from lshfm.objectives.learner import Learner
from lshfm.objectives.teacher import Normalisation, Recorded, Teacher
from lshfm.objectives.terms import Terms
from lshfm.report import detection as report_of
from lshfm.report.arms import Arm
from lshfm.report.blocks import Section
from lshfm.tasks.detection import data, page
from lshfm.tasks.detection.evaluation import evaluator
from lshfm.tasks.detection.files import detections_of, require_devkit_ids, write_coco, write_devkit
from lshfm.tasks.pixels import TrainingData
from lshfm.tasks.task import Arrays, Evaluate, FileWriter, Task

LEAST_SIZE = 32  # pixels of a picture's shorter side in training, as of dataset.train_sizes


class OwnLosses(nn.Module):
    """Stands for a detector's own losses, which need no label loss beside them."""


class Detection(Task):
    """Labels are float32 (n, M, 7) as `datasets.boxes` has them; networks give boxes, scores and labels of an image."""

    stages = ("2",)
    metrics = tuple(DEFINITIONS)
    score = "AP"
    has_projection = False
    has_varied_shapes = True
    gives_boxes = True
    definitions = DEFINITIONS

    def read(self, dataset: Dataset, names: Sequence[str]) -> list[Split]:
        """The named splits with their boxes, with the same classes."""
        return data.read(dataset, names)

    def training_data(self, train: Split, test: Split, settings: Training, device: torch.device) -> TrainingData:
        """Mirrored batches of one aspect group to train on, and batches in order to validate and test on."""
        if isinstance(settings, Mimic) and settings.teacher_tape != "off":
            raise InputError(
                "teacher_tape: a detector's teacher gives features of the places that its student chooses, which are "
                "others in every run: teacher_tape=off"
            )
        if settings.dataset.size < LEAST_SIZE:
            raise InputError(f"dataset.size={settings.dataset.size}: must be at least {LEAST_SIZE} to train a detector")
        if settings.balanced:
            self.pools(train.labels)
        return data.training_data(train, test, settings, device)

    def evaluation_batches(
        self, split: Split, dataset: Dataset, device: torch.device, *, workers: int | None, batch_size: int,
        channels_last: bool,  # noqa: ARG002
    ) -> Loader:  # fmt: skip
        """The split's images as they are."""
        return data.evaluation_batches(split, dataset, device, workers=workers, batch_size=batch_size)

    def describe(self, split: Split, used: int, purpose: str) -> str:
        """A line for the log: images, classes, objects an image, difficult and crowd ones."""
        objects = int(learnt(split.labels).sum())
        others = int((split.labels[..., 0] > 0).sum()) - objects
        images, classes = count(len(split), "image"), count(len(split.classes), "class", "classes")
        return (
            f"{purpose} {split.name}: {used} of {images}, {classes}, {objects / max(len(split), 1):.2f} objects an "
            f"image, {others} difficult or crowds"
        )

    def no_labels(self, images: int, classes: int) -> np.ndarray:  # noqa: ARG002
        """No object in any image."""
        return np.zeros((images, 0, COLUMNS), np.float32)

    def shows(self, split: Split) -> np.ndarray:
        """Bool (n, C): the classes of which each image has an object to learn."""
        return data.shows(split)

    def network(
        self, network: Network, classes: Sequence[str], size: int, *, at: str = "model"
    ) -> tuple[nn.Module, Loaded | None]:
        """A detector with an output for each class and one for the background."""
        if str(network.own.get("_target_", "")).startswith("lshfm.") and network.own.get("arch") not in DETECTORS:
            raise InputError(
                f"{at}={network.title} is no detector, which the task detection needs: {', '.join(DETECTORS)}"
            )
        module: nn.Module = build(network.own, at=at, num_classes=len(classes) + 1, size=size)
        for needed in ("learn", "features", "num_features", "classifier"):
            if not hasattr(module, needed):
                raise InputError(f"{type(module).__name__} has no {needed}, which the task detection needs")
        with errors.at(at):
            path = resolve(network.weights or "none", backbone_of(str(network.own.get("arch"))))
            return module, load_detector(module, path, classes) if path else None

    def label_loss(
        self, loss: LabelLoss, parts: int, *, at: str, labels: np.ndarray | None = None  # noqa: ARG002
    ) -> tuple[str, nn.Module]:  # fmt: skip
        """A detector's own losses, the only choice."""
        if not str(loss.target).endswith(f".{OwnLosses.__name__}"):
            raise InputError(f"{at}={loss.title}: a detector learns by its own losses: {at}=detector")
        return loss.title, OwnLosses()

    def supervised(
        self, network: nn.Module, loss: nn.Module, name: str, *, freeze: Sequence[str], precision: str  # noqa: ARG002
    ) -> Learner:  # fmt: skip
        """A detector that learns from boxes."""
        return Detect(network, freeze=freeze, precision=precision)

    def teacher(self, network: nn.Module, *, precision: str, normalisation: Normalisation | None) -> Teacher:
        """A detector that gives features of the places that its student chose."""
        return DetectorTeacher(network, precision=precision, normalisation=normalisation)

    def constants(self, network: nn.Module) -> dict[str, Any]:
        """The eps of frozen BatchNorm layers, and how many detections of a class are kept, where there are such."""
        eps = next((layer.eps for layer in network.modules() if isinstance(layer, FrozenBatchNorm2d)), None)
        found = {"frozen_eps": eps, "per_class": getattr(network, "per_class", None)}
        return {name: value for name, value in found.items() if value is not None}

    def check_mimicking(self, loss: MimicLoss, student: Student) -> None:
        """InputError for losses that detectors do not have."""
        if logits := [name for name, each in loss.chosen.items() if each.kind != "feature"]:
            raise InputError(f"loss={logits[0]}: detectors mimic features: l1, l2, lsh or lshl2")
        if loss.alpha:
            raise InputError(f"loss.alpha={loss.alpha}: detectors mimic features, and no logits: loss.alpha=0")
        if str(student.own.get("arch")).startswith("retinanet"):
            _require_windows(loss)
        if loss.hashing and loss.hashing.bias != "zero" and loss.hashing.form == "bce":
            raise InputError(
                f"loss.bias={loss.hashing.bias}: for detectors the hash functions have none: loss.bias=zero"
            )

    def mimic(
        self, network: nn.Module, teacher: Teacher | Recorded, loss: MimicLoss, *, label_loss: nn.Module,  # noqa: ARG002
        label_name: str, on_features: Terms, on_logits: Terms, others: Mapping[str, Terms],  # noqa: ARG002
        freeze: Sequence[str], precision: str,
    ) -> Learner:  # fmt: skip
        """A detector that learns from boxes and a teacher's features."""
        assert isinstance(teacher, DetectorTeacher)
        keys = {} if loss.of_boxes is None else vars(loss.of_boxes)  # a loss of the user's own may lack them
        return MimicDetect(
            network, teacher, terms=on_features, gamma=loss.gamma, freeze=freeze, precision=precision, **keys
        )

    def evaluator(
        self, loader: Loader, split: Split, metric: str, precision: str, *, features: bool = False
    ) -> Evaluate:
        """A function that measures every definition of AP; arrays as `evaluation.evaluator` says."""
        assert isinstance(loader, BoxLoader)
        assert isinstance(split, BoxSplit)
        return evaluator(loader, split, metric, precision, features=features)

    def chance(self, arrays: Arrays) -> float | None:  # noqa: ARG002
        """A detector without knowledge finds nothing."""
        return 0.0

    def tables(self, report: dict[str, Any]) -> RenderableType:
        """Tables of the AP of each class, and of COCO's numbers."""
        return report_of.tables(report)

    def definition(self, metric: str) -> str:
        """Which definition of AP the mean over the classes is of."""
        return f"mean over the classes of average precision, {DEFINITIONS[metric]}, in percent"

    def sections(self, arms: Sequence[Arm]) -> list[Section]:
        """AP by class, precision over recall, and what is wrong with detections."""
        return page.sections(arms)

    def examples(self, dataset: Dataset, arms: Sequence[Arm]) -> tuple[Section | None, str | None]:
        """A few test images with their objects and each network's detections."""
        return page.scenes(self, dataset, arms)

    def file_writer(self, dataset: Dataset, split: Split) -> FileWriter | None:
        """A function that writes detections in COCO's result format, and the VOC devkit's files if asked for."""
        if dataset.devkit:
            require_devkit_ids(split.ids, "dataset.devkit=false")
        assert isinstance(split, BoxSplit)

        def write(folder: Path, arrays: Arrays, saw_no_others: bool) -> None:
            write_coco(folder, detections_of(arrays), split.classes, split.category_ids)
            if dataset.devkit:
                comp = "comp3" if saw_no_others else "comp4"
                write_devkit(folder, detections_of(arrays), split.classes, split.name, comp=comp)

        return write


def _require_windows(loss: MimicLoss) -> None:
    """InputError for a loss of the user's own that has no form on windows: told before anything is computed."""
    for node in (node for each in loss.chosen.values() for node in each.terms.values()):
        if isinstance(kind := imported(str(node.get("_target_"))), type):
            check_windows(kind)
