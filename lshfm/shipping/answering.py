"""What every trained network in use is: pictures in, a record for each out, whatever it answers."""

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
from PIL import Image

from lshfm.datasets.images import FileImages
from lshfm.datasets.split import Images
from lshfm.metrics.decisions import Decisions
from lshfm.shipping.answers import Answers
from lshfm.shipping.inputs import find_pictures
from lshfm.shipping.pictures import InMemory, Picture, ToPixels, is_path

BATCH = 64

Outputs = TypeVar("Outputs")  # of a batch
Record = TypeVar("Record")  # of a picture


AnyNetwork: TypeAlias = "Answering[Any, Any]"


class Answering(ABC, Generic[Outputs, Record]):
    """A network with its classes; `predict` takes a path, folder, glob, PIL image, array, or a list of them."""

    classes: tuple[str, ...]
    decisions: Decisions
    transform: ToPixels

    def predict(
        self, images: Picture | Iterable[Picture], threshold: float | None = None, top: int | None = None,
        batch_size: int = BATCH,
    ) -> list[Record]:  # fmt: skip
        """A record for each picture, in order; one that cannot be read has an `error` and nothing else.

        threshold: the probability, or an object's score, from which it is predicted; without it the thresholds that
        were chosen for each class, else 0.5. top: at most so many of a picture; without a threshold the likeliest so
        many. Raises InputError for paths that name nothing and for arrays that are no pictures.
        """
        self.decisions.chosen(np.zeros(1), threshold, top)  # before any work
        pictures = self._opened(images)
        found: list[Record] = []
        for outputs in self.stream(pictures, batch_size=batch_size):
            found += self.records(pictures, outputs, threshold, top)
        return found

    @abstractmethod
    def stream(
        self, pictures: Images, *, batch_size: int = BATCH, workers: int = 0, features: bool = False, start: int = 0
    ) -> Generator[Outputs, None, None]:
        """The outputs of the pictures from number `start` on, batch by batch, in order."""

    @abstractmethod
    def records(
        self, pictures: Images, outputs: Outputs, threshold: float | None = None, top: int | None = None
    ) -> Iterator[Record]:
        """The records of a batch's pictures, in order."""

    @abstractmethod
    def answers(self, *, features: bool = False, devkit: bool = False, coco_ids: Path | None = None) -> Answers:
        """How its records are shown and written. Raises InputError for files that there are none of."""

    def _source(self, pictures: Images, index: int) -> str | None:
        """A picture's path; None where it came without one."""
        return None if isinstance(pictures, InMemory) and not is_path(pictures, index) else pictures.where(index)

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
