"""A trained network as people use it: pictures in, labels and features out."""

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from lshfm.datasets.augment import normalise
from lshfm.datasets.decode import decode, decode_good
from lshfm.datasets.images import FileImages, pixels_of
from lshfm.datasets.split import BrokenImage, Images, Pixels
from lshfm.errors import InputError
from lshfm.metrics.decisions import Decisions, named
from lshfm.ranks.device import autocast
from lshfm.shipping.inputs import find_pictures

Picture = str | Path | Image.Image | NDArray[Any]  # arrays: RGB uint8 (h, w, 3), or grey (h, w)
BATCH = 64


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a network says of one picture."""

    source: str | None  # the file's path; None for a picture that came without one
    labels: dict[str, float] = field(default_factory=dict)  # those predicted, with probabilities, likeliest first
    probabilities: NDArray[np.float64] | None = None  # (C,), of every class
    logits: NDArray[np.float32] | None = None  # (C,); None of a file that gives probabilities alone
    error: str | None = None  # why the picture could not be read; nothing else is there then


class Outputs(NamedTuple):
    """A batch's outputs: a row for each picture that could be read."""

    numbers: NDArray[np.int64]  # (g,) of those pictures
    probabilities: NDArray[np.float64]  # (g, C)
    logits: NDArray[np.float32] | None  # (g, C)
    features: NDArray[np.float32] | None  # (g, D)
    broken: dict[int, str]  # what is wrong with the others, by index


@dataclass(frozen=True)
class Transform:
    """From a picture to what the network expects, exactly as in training and evaluation without augmentation."""

    size: int
    mean: tuple[float, ...]  # of red, green and blue, for pixels in [0, 1]
    std: tuple[float, ...]
    fit: str = "stretch"  # how pictures become squares: stretch or crop, as the data set had it

    def __call__(self, image: Picture) -> Tensor:
        """Float32 (3, size, size). Raises BrokenImage, an InputError, for what cannot be read."""
        return self.normalised(self.pixels(image)[None])[0]

    def pixels(self, image: Picture) -> Pixels:
        """RGB, uint8 (size, size, 3): decoded and resized."""
        if isinstance(image, str | Path):
            return FileImages((Path(image).expanduser(),), fit=self.fit).pixels(0, self.size)
        return pixels_of(image if isinstance(image, Image.Image) else _as_picture(image), self.size, self.fit)

    def normalised(self, pixels: Pixels | Tensor) -> Tensor:
        """Uint8 (B, size, size, 3) to float32 (B, 3, size, size)."""
        return normalise(torch.as_tensor(pixels), self.mean, self.std)


@dataclass(frozen=True, eq=False)
class InMemory:
    """Pictures that are decoded already, as the data sets' `Images`."""

    pictures: Sequence[Picture]
    transform: Transform

    def __len__(self) -> int:
        return len(self.pictures)

    def pixels(self, index: int, size: int) -> Pixels:  # noqa: ARG002 - the transform's own
        return self.transform.pixels(self.pictures[index])

    def where(self, index: int) -> str:
        picture = self.pictures[index]
        return str(picture) if isinstance(picture, str | Path) else f"image {index}"

    def signature(self) -> str:
        raise InputError("pictures in memory are in no store")

    fingerprint = signature


class Predictor(ABC):
    """A network with its classes; `predict` takes a path, folder, glob, PIL image, array, or a list of them."""

    def __init__(self, classes: Sequence[str], transform: Transform, decisions: Decisions) -> None:
        self.classes = tuple(classes)
        self.transform = transform
        self.decisions = decisions

    @abstractmethod
    def outputs_of(
        self, pixels: Pixels, *, features: bool
    ) -> tuple[NDArray[np.float64], NDArray[np.float32] | None, NDArray[np.float32] | None]:
        """Probabilities (B, C), logits (B, C) and features (B, D) of uint8 (B, size, size, 3), where it has them."""

    def predict(
        self, images: Picture | Iterable[Picture], threshold: float | None = None, top: int | None = None,
        batch_size: int = BATCH,
    ) -> list[Prediction]:  # fmt: skip
        """A record for each picture, in order; one that cannot be read has an `error` instead of labels.

        threshold: the probability from which a class is predicted; without it the thresholds that were chosen for
        each class, else 0.5. top: at most so many labels; without a threshold the likeliest so many. Raises InputError
        for paths that name nothing and for arrays that are no pictures.
        """
        self.decisions.chosen(np.zeros(1), threshold, top)  # before any work
        pictures = self._opened(images)
        found: list[Prediction] = []
        for outputs in self.stream(pictures, batch_size=batch_size):
            found += self.records(pictures, outputs, threshold, top)
        return found

    def records(
        self, pictures: Images, outputs: Outputs, threshold: float | None = None, top: int | None = None
    ) -> Iterator[Prediction]:
        """The records of a batch's pictures, in order."""
        rows = {int(index): row for row, index in enumerate(outputs.numbers)}
        for index in sorted([*rows, *outputs.broken]):
            source = None if isinstance(pictures, InMemory) and not _is_path(pictures, index) else pictures.where(index)
            if index in outputs.broken:
                yield Prediction(source, error=outputs.broken[index])
                continue
            row = outputs.probabilities[rows[index]]
            logits = None if outputs.logits is None else outputs.logits[rows[index]]
            labels = named(self.classes, row, self.decisions.chosen(row, threshold, top))
            yield Prediction(source, labels, row, logits)

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
        with closing(decode(pictures, work, steps, workers)) as decoded:
            for step, (pixels, broken) in zip(steps, decoded, strict=True):
                good = np.array([i for i in step if int(i) not in broken], np.int64)
                yield self._batch(good, pixels, broken, features=features)

    def _batch(self, index: NDArray[np.int64], pixels: Pixels, broken: dict[int, str], *, features: bool) -> Outputs:
        if not len(index):
            empty = np.empty((0, len(self.classes)))
            return Outputs(index, empty, empty.astype(np.float32), None, broken)
        return Outputs(index, *self.outputs_of(pixels, features=features), broken)

    def _opened(self, images: Picture | Iterable[Picture]) -> Images:
        """The pictures that were meant. Raises InputError for none."""
        one = isinstance(images, str | Path | Image.Image | np.ndarray) or not isinstance(images, Iterable)
        several: list[Picture] = [images] if one else list(images)  # type: ignore[list-item,arg-type]
        if all(isinstance(each, str | Path) for each in several):
            return FileImages(tuple(path for each in several for path in find_pictures(each)))  # type: ignore[arg-type]
        for each in several:
            if not isinstance(each, str | Path):
                self.transform.pixels(each)  # an array that is no picture is the caller's mistake
        return InMemory(several, self.transform)


class TorchPredictor(Predictor):
    """A network of torch's: `model` is the module, in eval mode, images -> (feature, logits)."""

    def __init__(
        self, model: nn.Module, classes: Sequence[str], transform: Transform, decisions: Decisions, *,
        device: torch.device, fast: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(classes, transform, decisions)
        self.device = device
        self._precision = "bf16" if fast and device.type == "cuda" else "fp32"
        order = torch.channels_last if fast else torch.contiguous_format
        self.model = model.to(device).to(memory_format=order).eval()

    @torch.inference_mode()
    def outputs_of(
        self, pixels: Pixels, *, features: bool
    ) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.float32] | None]:
        """Probabilities, logits, and features where they are asked for."""
        images = self.transform.normalised(torch.from_numpy(pixels).to(self.device))
        with autocast(self.device, self._precision):
            feature, logits = self.model(images)
        values: NDArray[np.float32] = logits.float().cpu().numpy()
        kept = feature.float().cpu().numpy() if features else None
        return self.decisions.probabilities(values), values, kept


def _is_path(pictures: InMemory, index: int) -> bool:
    return isinstance(pictures.pictures[index], str | Path)


def _as_picture(image: object) -> Image.Image:
    """An array as a picture. Raises InputError for one that is none."""
    array = np.asarray(image)
    is_picture = array.dtype == np.uint8 and (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4)))
    if not is_picture or not array.size:
        raise InputError(f"an array must be uint8 (h, w, 3), RGB, or (h, w), and is {array.dtype} {array.shape}")
    return Image.fromarray(array)


__all__ = ["BrokenImage", "Prediction", "Predictor", "TorchPredictor", "Transform"]
