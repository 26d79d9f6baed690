"""A trained network as people use it: pictures in, labels and features out."""

from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lshfm.datasets.augment import send
from lshfm.datasets.decode import decode, decode_good
from lshfm.datasets.images import FileImages
from lshfm.datasets.split import BrokenImage, Images, Pixels
from lshfm.errors import InputError
from lshfm.metrics.decisions import Decisions, named
from lshfm.ranks.device import autocast
from lshfm.shipping.answering import BATCH, Answering
from lshfm.shipping.answers import Answers, LabelAnswers, Prediction
from lshfm.shipping.pictures import Picture, Transform

# Waits for a batch's outputs: probabilities, logits, features; None for what is not there.
Ending = Callable[[], tuple[NDArray[np.float64], NDArray[np.float32] | None, NDArray[np.float32] | None]]


class Outputs(NamedTuple):
    """A batch's outputs: a row for each picture that could be read."""

    numbers: NDArray[np.int64]  # (g,) of those pictures
    probabilities: NDArray[np.float64]  # (g, C)
    logits: NDArray[np.float32] | None  # (g, C)
    features: NDArray[np.float32] | None  # (g, D)
    broken: dict[int, str]  # what is wrong with the others, by index


class Predictor(Answering[Outputs, Prediction]):
    """A classifier with its classes; `predict` takes a path, folder, glob, PIL image, array, or a list of them."""

    transform: Transform

    def __init__(self, classes: Sequence[str], transform: Transform, decisions: Decisions) -> None:
        self.classes = tuple(classes)
        self.transform = transform
        self.decisions = decisions

    ahead = 0  # batches that are begun before the outputs of an earlier one are waited for

    @abstractmethod
    def begin(self, pixels: Pixels, *, features: bool) -> Ending:
        """Begin the work on uint8 (B, size, size, 3).

        What is returned waits for it, and gives probabilities (B, C), logits (B, C) and features (B, D), where it has
        them.
        """

    def records(
        self, pictures: Images, outputs: Outputs, threshold: float | None = None, top: int | None = None
    ) -> Iterator[Prediction]:
        """The records of a batch's pictures, in order."""
        rows = {int(index): row for row, index in enumerate(outputs.numbers)}
        for index in sorted([*rows, *outputs.broken]):
            source = self._source(pictures, index)
            if index in outputs.broken:
                yield Prediction(source, error=outputs.broken[index])
                continue
            row = outputs.probabilities[rows[index]]
            logits = None if outputs.logits is None else outputs.logits[rows[index]]
            labels = named(self.classes, row, self.decisions.chosen(row, threshold, top))
            yield Prediction(source, labels, row, logits)

    def answers(self, *, features: bool = False, devkit: bool = False, coco_ids: Path | None = None) -> Answers:  # noqa: ARG002
        """Labels, with every class's output."""
        if devkit or coco_ids:
            raise InputError("devkit=true and coco_ids= are of files that detectors write, and this is a classifier")
        return LabelAnswers(self.classes)

    def features(self, images: Picture | Iterable[Picture], batch_size: int = BATCH) -> NDArray[np.float32]:
        """(n, D), a row a picture. Raises InputError for a picture that cannot be read."""
        rows = []
        for outputs in self.stream(self._opened(images), batch_size=batch_size, features=True):
            if outputs.broken:
                raise InputError(next(iter(outputs.broken.values())))
            assert outputs.features is not None
            rows.append(outputs.features)
        return np.concatenate(rows)

    def stream(
        self, pictures: Images, *, batch_size: int = BATCH, workers: int = 0, features: bool = False, start: int = 0
    ) -> Generator[Outputs, None, None]:
        """The outputs of the pictures from number `start` on, batch by batch, in order."""
        if isinstance(pictures, FileImages):
            pictures = replace(pictures, fit=self.transform.fit)
        index = np.arange(start, len(pictures))
        steps = [index[begin : begin + batch_size] for begin in range(0, len(index), batch_size)]
        work = partial(decode_good, size=self.transform.size)
        begun: deque[Callable[[], Outputs]] = deque()
        with closing(decode(pictures, work, steps, workers)) as decoded:
            for step, (pixels, broken) in zip(steps, decoded, strict=True):
                good = np.array([i for i in step if int(i) not in broken], np.int64)
                begun.append(self._begin(good, pixels, broken, features=features))
                if len(begun) > self.ahead:
                    yield begun.popleft()()
        while begun:
            yield begun.popleft()()

    def _begin(
        self, index: NDArray[np.int64], pixels: Pixels, broken: dict[int, str], *, features: bool
    ) -> Callable[[], Outputs]:
        if not len(index):
            empty = np.empty((0, len(self.classes)))
            return lambda: Outputs(index, empty, empty.astype(np.float32), None, broken)
        end = self.begin(pixels, features=features)
        return lambda: Outputs(index, *end(), broken)


class TorchPredictor(Predictor):
    """A network of torch's: `model` is the module, in eval mode, images -> (feature, logits)."""

    def __init__(
        self, model: nn.Module, classes: Sequence[str], transform: Transform, decisions: Decisions, *,
        device: torch.device, fast: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(classes, transform, decisions)
        self.device = device
        self.ahead = 1 if device.type == "cuda" else 0  # it computes while the host writes what came before
        self._precision = "bf16" if fast and device.type == "cuda" else "fp32"
        self._channels_last = fast
        order = torch.channels_last if fast else torch.contiguous_format
        self.model = model.to(device).to(memory_format=order).eval()

    @torch.inference_mode()
    def begin(self, pixels: Pixels, *, features: bool) -> Ending:
        """Probabilities, logits, and features where they are asked for; the host waits for none of it here."""
        images = self.transform.normalised(
            send(torch.from_numpy(pixels), self.device), channels_last=self._channels_last
        )
        with autocast(self.device, self._precision):
            feature, logits = self.model(images)
        values, kept = _fetched(logits.float()), _fetched(feature.float()) if features else None
        return lambda: (self.decisions.probabilities(values()), values(), kept() if kept else None)


def _fetched(tensor: Tensor) -> Callable[[], NDArray[np.float32]]:
    """A copy of a tensor to the host that is under way; what is returned waits for this copy alone."""
    if tensor.device.type != "cuda":
        return tensor.cpu().numpy
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record()

    def values() -> NDArray[np.float32]:
        arrived.synchronize()
        array: NDArray[np.float32] = copy.numpy()
        return array

    return values


__all__ = ["BrokenImage", "Prediction", "Predictor", "TorchPredictor", "Transform"]
