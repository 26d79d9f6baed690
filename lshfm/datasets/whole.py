"""Pictures that keep their shape: in their own size, or shrunk to a short side; from files, or from a store of them."""

from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lshfm.datasets.decode import ahead
from lshfm.datasets.fitting import fitted, shrunk, shrunk_size
from lshfm.datasets.images import FileImages, digest
from lshfm.datasets.ragged_file import RaggedFile, RaggedStore
from lshfm.datasets.split import Pixels


@dataclass(frozen=True)
class WholePictures:
    """The pictures of a split as a store of whole ones holds them. short: most pixels of their short side; 0: any."""

    images: FileImages
    short: int = 0

    def __len__(self) -> int:
        return len(self.images)

    def where(self, index: int) -> str:
        return self.images.where(index)

    def picture(self, index: int) -> Image.Image:
        """RGB. Raises BrokenImage."""
        return shrunk(self.images.picture(index), self.short)

    def pixels(self, index: int, size: int) -> Pixels:  # noqa: ARG002
        """Uint8 (h, w, 3), whatever size is asked for. Raises BrokenImage."""
        return np.array(self.picture(index))

    def shape(self, index: int) -> tuple[int, int]:
        """Height and width, without decoding; (0, 0) for what is no picture."""
        width, height = shrunk_size(self.images.own_size(index) or (0, 0), self.short)
        return height, width

    def signature(self) -> str:
        return digest(["whole", self.short, self.images.signature()])

    def fingerprint(self) -> str:
        return digest(["whole", self.short, self.images.fingerprint()])


@dataclass(frozen=True)
class Part:
    """A picture in a store, of which only what is cut out is copied."""

    pixels: Pixels

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.pixels.shape[1], self.pixels.shape[0]

    def crop(self, box: tuple[int, int, int, int]) -> Image.Image:
        """What lies within left, top, right, bottom."""
        left, top, right, bottom = box
        return Image.fromarray(np.ascontiguousarray(self.pixels[top:bottom, left:right]))


@dataclass(frozen=True)
class StoredPictures:
    """The pictures of a finished store of whole ones. images: what it was made of; fit: as they become squares."""

    file: RaggedFile
    images: Any
    fit: str = "stretch"

    def __len__(self) -> int:
        return self.file.n

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.file, self.images, self.fit)  # not the pixels: a process opens them for itself

    @cached_property
    def store(self) -> RaggedStore:
        return self.file.open()

    def where(self, index: int) -> str:
        return str(self.images.where(index))

    def picture(self, index: int) -> Part:
        """A picture that can be cropped."""
        return Part(self.store.picture(index))

    def pixels(self, index: int, size: int) -> Pixels:
        """RGB, uint8 (size, size, 3)."""
        return np.array(fitted(Image.fromarray(self.store.picture(index)), size, self.fit))

    def signature(self) -> str:
        return str(self.images.signature())

    def fingerprint(self) -> str:
        return str(self.images.fingerprint())

    def stream(self, batches: Iterable[NDArray[np.int64]]) -> Generator[list[Pixels], None, None]:
        """Uint8 (h, w, 3) of each picture, for each array of indices; read a little ahead."""

        def take(index: NDArray[np.int64]) -> list[Pixels]:
            return [self.store.picture(i).copy() for i in index.tolist()]

        with ThreadPoolExecutor(1) as pool:
            yield from ahead(lambda index: pool.submit(take, index), batches, depth=2)
