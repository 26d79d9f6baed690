"""What an export is of, a classifier or a detector: its formats, and how it is checked and measured."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from lshfm.config.schema import Export
from lshfm.datasets.box_loader import BoxLoader, BoxView, DecodedPictures
from lshfm.datasets.boxes import BoxSplit
from lshfm.datasets.images import FileImages
from lshfm.datasets.loader import DecodedPixels, Loader, View
from lshfm.datasets.split import Split
from lshfm.errors import InputError
from lshfm.shipping.box_formats import BOX_FORMATS, WHY_NOT
from lshfm.shipping.box_parity import TOLERANCE, BoxParity, bench_boxes, compare_boxes
from lshfm.shipping.description import BOX_OUTPUTS, Description
from lshfm.shipping.formats import FORMATS, Format, require_counterpart
from lshfm.shipping.parity import TOLERANCES, Parity, bench, compare
from lshfm.tasks.pixels import plain_loader
from lshfm.tasks.task import Evaluate, Task

CPU = torch.device("cpu")
ADVICE = "Take it out of images="
RUNTIMES = {"onnx": "ONNX Runtime", "pt2": "torch.export"}  # what runs an exported graph


class Compared(Protocol):
    """How an exported network compares with its original."""

    @property
    def metric(self) -> str: ...
    @property
    def words(self) -> str: ...
    @property
    def difference(self) -> str: ...
    @property
    def drop(self) -> float | None: ...
    def record(self) -> dict[str, Any]: ...


class Kind(ABC):
    """A kind of network. thing: what a file of it is. batch: images at a time of the check."""

    thing: str
    batch: int
    formats: Mapping[str, Format]

    @abstractmethod
    def require(self, settings: Export) -> None:
        """Raise InputError for settings that an export of this kind does not have."""

    def require_counterpart(self, format_: str, network: nn.Module) -> None:  # noqa: ARG002
        """Raise InputError, with the reason, for a format that does not hold this network."""
        return

    @abstractmethod
    def outputs(self, settings: Export) -> list[str]:
        """The outputs of the file by name."""

    @abstractmethod
    def of_pictures(
        self, paths: Sequence[Path], classes: Sequence[str], labels: np.ndarray, described: Description
    ) -> tuple[Split, Loader]:  # fmt: skip
        """Pictures with these labels, which are none, as a split, and its batches; their score is undefined."""

    @abstractmethod
    def compare(self, evaluate: Evaluate, pair: tuple[nn.Module, nn.Module], described: Description) -> Compared:
        """The original and the exported network on the same images."""

    @abstractmethod
    def require_same(self, found: Any, settings: Export) -> None:
        """Raise RunFailed for an exported network that is not the same."""

    @abstractmethod
    def bench(self, pair: tuple[nn.Module, nn.Module], settings: Export, size: int) -> dict[str, float]:
        """Images a second on this machine's CPU, of the original and the exported network."""


class Classifiers(Kind):
    """Networks that give a logit for each class."""

    thing, batch, formats = "An image classifier", 32, FORMATS

    def require(self, settings: Export) -> None:
        """All settings are theirs."""

    def require_counterpart(self, format_: str, network: nn.Module) -> None:
        """Raise InputError where another library that the format is of has no such network."""
        require_counterpart(format_, network)

    def outputs(self, settings: Export) -> list[str]:
        """Logits or probabilities, and the feature where it is asked for."""
        return ["probabilities" if settings.uint8 else "logits", *(["feature"] if settings.feature else [])]

    def of_pictures(
        self, paths: Sequence[Path], classes: Sequence[str], labels: np.ndarray, described: Description
    ) -> tuple[Split, Loader]:  # fmt: skip
        """As squares."""
        split = Split("images", tuple(classes), numbered_ids(len(paths)), labels, FileImages(tuple(paths)))
        view = View(tuple(described.mean), tuple(described.std))
        pixels = DecodedPixels(split.images, described.size, 0, ADVICE)
        return split, plain_loader(pixels, np.arange(len(split)), split, view, self.batch, CPU)

    def compare(self, evaluate: Evaluate, pair: tuple[nn.Module, nn.Module], described: Description) -> Parity:
        """Outputs and decisions."""
        return compare(evaluate, *pair, described.decisions, output=described.outputs[0])

    def require_same(self, found: Parity, settings: Export) -> None:
        """By the largest difference of an output."""
        found.require(settings.tolerance or TOLERANCES[settings.precision])

    def bench(self, pair: tuple[nn.Module, nn.Module], settings: Export, size: int) -> dict[str, float]:
        """One image at a time and sixteen."""
        return bench(*pair, size, RUNTIMES.get(settings.format, "exported"))


class Detectors(Kind):
    """Networks that give boxes of objects."""

    thing, batch, formats = "An object detector", 4, BOX_FORMATS

    def __init__(self, tolerance: float | None) -> None:
        self.tolerance = tolerance or TOLERANCE

    def require(self, settings: Export) -> None:
        """Detectors have no one feature of an image, are exported in fp32, and not all formats hold them."""
        if settings.format in WHY_NOT:
            why = WHY_NOT[settings.format]
            raise InputError(f"format={settings.format}: {why}; format=onnx or safetensors takes any detector")
        if settings.feature:
            raise InputError("feature=true: a detector has features of boxes, and none of an image: leave it out")
        if settings.precision != "fp32":
            raise InputError(f"precision={settings.precision}: detectors are exported in fp32")

    def outputs(self, settings: Export) -> list[str]:  # noqa: ARG002
        """Boxes, scores and labels."""
        return BOX_OUTPUTS

    def of_pictures(
        self, paths: Sequence[Path], classes: Sequence[str], labels: np.ndarray, described: Description
    ) -> tuple[Split, Loader]:  # fmt: skip
        """In their own sizes."""
        num, images = len(paths), FileImages(tuple(paths))
        split = BoxSplit("images", tuple(classes), numbered_ids(num), labels, images, np.ones((num, 2), np.int64))
        return split, BoxLoader(
            DecodedPictures(images, 0, ADVICE), split, batch_size=self.batch, device=CPU, shuffle=False,
            view=BoxView(tuple(described.mean), tuple(described.std)), sizes=[described.size],
        )  # fmt: skip

    def compare(self, evaluate: Evaluate, pair: tuple[nn.Module, nn.Module], described: Description) -> BoxParity:  # noqa: ARG002
        """Detections, each with the one of the other network that it is."""
        return compare_boxes(evaluate, *pair, self.tolerance)

    def require_same(self, found: BoxParity, settings: Export) -> None:  # noqa: ARG002
        """By the share of detections that are in both."""
        found.require()

    def bench(self, pair: tuple[nn.Module, nn.Module], settings: Export, size: int) -> dict[str, float]:
        """One image at a time."""
        return bench_boxes(*pair, size, RUNTIMES.get(settings.format, "exported"))


def kind_of(task: Task, name: str, settings: Export) -> Kind:
    """What an export of this task's networks is of. Raises InputError for other outputs. name: the task's."""
    if not task.gives_boxes and task.activation is None:
        raise InputError(f"outputs of the task {name} are neither classes nor boxes: they cannot be exported")
    kind: Kind = Detectors(settings.tolerance) if task.gives_boxes else Classifiers()
    kind.require(settings)
    return kind


def numbered_ids(num: int) -> tuple[str, ...]:
    """Ids of pictures that have none."""
    return tuple(map(str, range(num)))
