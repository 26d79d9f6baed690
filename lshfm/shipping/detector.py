"""A trained detector as people use it: pictures in, boxes of objects out."""

from abc import abstractmethod
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lshfm.datasets.boxes import CocoId
from lshfm.datasets.decode import decode, decode_whole
from lshfm.datasets.split import Images, Pixels
from lshfm.errors import InputError
from lshfm.metrics.decisions import Decisions
from lshfm.ranks.device import autocast
from lshfm.shipping.answering import BATCH, Answering
from lshfm.shipping.answers import Answers
from lshfm.shipping.box_answers import BoxAnswers, DetectedObject, Detections
from lshfm.shipping.description import Description
from lshfm.shipping.pictures import OwnSize
from lshfm.tasks.detection.evaluation import of_one_size, require_finite

TOGETHER = 4  # whole pictures that are decoded, and given to a network, in one go: more of them would fill the memory


class Found(NamedTuple):
    """What a detector finds in one picture, best first, in the picture's own pixels."""

    boxes: NDArray[np.float32]  # (k, 4): left, top, right, bottom, half open
    scores: NDArray[np.float32]  # (k,)
    labels: NDArray[np.int64]  # (k,) classes, from 0


class BoxOutputs(NamedTuple):
    """What is found in a batch's pictures that could be read, by their numbers, and what is wrong with the others."""

    found: dict[int, Found]
    sizes: dict[int, tuple[int, int]]  # width, height
    broken: dict[int, str]
    features: None = None


class Detector(Answering[BoxOutputs, Detections]):
    """A detector with its classes; `predict` takes a path, folder, glob, PIL image, array, or a list of them.

    category_ids: of the classes in COCO's format; none: counted from 1. saw_only_its_data: whether it started from
    random weights, as the devkit's competitions part networks.
    """

    def __init__(
        self, classes: Sequence[str], transform: OwnSize, *, category_ids: Sequence[CocoId] = (),
        saw_only_its_data: bool = False,
    ) -> None:  # fmt: skip
        self.classes, self.category_ids = tuple(classes), tuple(category_ids)
        self.transform: OwnSize = transform
        self.decisions = Decisions("sigmoid")  # of scores, which are probabilities
        self.saw_only_its_data = saw_only_its_data

    @abstractmethod
    def detect(self, pictures: Sequence[Pixels]) -> list[Found]:
        """What is found in each picture, uint8 (h, w, 3)."""

    def stream(
        self, pictures: Images, *, batch_size: int = BATCH, workers: int = 0, features: bool = False, start: int = 0
    ) -> Generator[BoxOutputs, None, None]:
        """What is found in the pictures from number `start` on, batch by batch, in order."""
        if features:
            raise no_features()
        whole = range(start, len(pictures))
        steps = _cut(whole, batch_size)
        parts = [part for step in steps for part in _cut(step, TOGETHER)]
        with closing(decode(pictures, decode_whole, parts, workers)) as decoded:
            for step in steps:
                outputs = BoxOutputs({}, {}, {})
                for part in _cut(step, TOGETHER):
                    self._add(outputs, part, *next(decoded))
                yield outputs

    def _add(self, outputs: BoxOutputs, part: range, good: list[Pixels], broken: dict[int, str]) -> None:
        """Detect in pictures that were decoded."""
        numbers = [number for number in part if number not in broken]
        outputs.found.update(zip(numbers, self.detect(good), strict=True))
        outputs.sizes.update((number, pixels.shape[1::-1]) for number, pixels in zip(numbers, good, strict=True))
        outputs.broken.update(broken)

    def records(
        self, pictures: Images, outputs: BoxOutputs, threshold: float | None = None, top: int | None = None
    ) -> Iterator[Detections]:
        """The records of a batch's pictures, in order."""
        for number in sorted([*outputs.found, *outputs.broken]):
            source = self._source(pictures, number)
            if number in outputs.broken:
                yield Detections(source, error=outputs.broken[number])
                continue
            found = outputs.found[number]
            chosen = self.decisions.chosen(found.scores.astype(np.float64), threshold, top)
            objects = [self._object(found, row) for row in chosen]
            yield Detections(source, objects, outputs.sizes[number], *found)

    def _object(self, found: Found, row: int) -> DetectedObject:
        left, top, right, bottom = map(float, found.boxes[row])
        return DetectedObject(self.classes[found.labels[row]], float(found.scores[row]), (left, top, right, bottom))

    def features(self, *_images: object) -> NDArray[np.float32]:
        """Raises InputError: there is no feature of a picture."""
        raise no_features()

    def answers(self, *, features: bool = False, devkit: bool = False, coco_ids: Path | None = None) -> Answers:
        """Boxes; with the files of COCO's and the devkit's formats."""
        if features:
            raise no_features()
        return BoxAnswers(
            self.classes, self.category_ids, coco_ids=coco_ids, devkit=devkit,
            saw_only_its_data=self.saw_only_its_data,
        )  # fmt: skip


def no_features() -> InputError:
    """The error where a feature of a whole picture is asked for."""
    return InputError("a detector has features of boxes, and none of a picture: leave features=true out")


class TorchDetector(Detector):
    """A network of torch's: `model` is the module, in eval mode, a list of images -> a list of detections."""

    def __init__(
        self, model: nn.Module, classes: Sequence[str], transform: OwnSize, *, device: torch.device,
        category_ids: Sequence[CocoId] = (), saw_only_its_data: bool = False, fast: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(classes, transform, category_ids=category_ids, saw_only_its_data=saw_only_its_data)
        require_finite(model)
        self.device, self.model = device, model.to(device).eval()
        self._precision = "bf16" if fast and device.type == "cuda" else "fp32"

    @classmethod
    def of(cls, described: Description, model: nn.Module, device: torch.device, *, fast: bool) -> "TorchDetector":
        """The detector that a file describes, with its network."""
        transform = OwnSize(described.size, tuple(described.mean), tuple(described.std))
        return cls(
            model, described.classes, transform, device=device, category_ids=described.category_ids or (),
            saw_only_its_data=described.from_random, fast=fast,
        )  # fmt: skip

    @torch.inference_mode()
    def detect(self, pictures: Sequence[Pixels]) -> list[Found]:
        """What is found in each picture; those of one size go through the network together, as in evaluation."""
        images = [self.transform.normalised(pixels, self.device) for pixels in pictures]
        found: dict[int, Found] = {}
        for places in of_one_size(images):
            with autocast(self.device, self._precision):
                together = self.model([images[place] for place in places])
            found |= {place: found_of(each) for place, each in zip(places, together, strict=True)}
        return [found[place] for place in range(len(images))]


def found_of(each: dict[str, torch.Tensor]) -> Found:
    """A network's detections in one picture, whose classes count from 1."""
    boxes, scores, labels = (each[name].cpu().numpy() for name in ("boxes", "scores", "labels"))
    return Found(boxes.astype(np.float32), scores.astype(np.float32), labels.astype(np.int64) - 1)


def _cut(numbers: range, size: int) -> list[range]:
    """The numbers in parts of this size, the last one smaller."""
    return [numbers[begin : begin + size] for begin in range(0, len(numbers), size)]
