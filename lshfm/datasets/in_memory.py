"""Pictures that are an array already: small ones, which need neither decoding nor a store."""

import hashlib
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lshfm.datasets.split import Pixels


@dataclass(frozen=True, eq=False)
class ArrayImages:
    """The pictures uint8 (n, S, S, 3) of a split. source: what they were read from."""

    array: Pixels
    source: str

    def __len__(self) -> int:
        return len(self.array)

    @property
    def size(self) -> int:
        """Pixels a side."""
        return int(self.array.shape[1])

    def where(self, index: int) -> str:
        return f"{self.source}, image {index}"

    def pixels(self, index: int, size: int) -> Pixels:
        """RGB, by Pillow's antialiased bilinear resize where it is another size."""
        if size == self.size:
            own: Pixels = self.array[index].copy()
            return own
        return np.array(Image.fromarray(self.array[index]).resize((size, size), Image.Resampling.BILINEAR))

    def signature(self) -> str:
        return self._digest

    def fingerprint(self) -> str:
        """Hex digest of the pixels."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        shape = str(self.array.shape).encode()
        return hashlib.sha256(shape + np.ascontiguousarray(self.array).tobytes()).hexdigest()


@dataclass(frozen=True, eq=False)
class ArrayPixels:
    """An array as a loader reads it."""

    array: Pixels

    def __len__(self) -> int:
        return len(self.array)

    def stream(self, batches: Iterable[NDArray[np.int64]]) -> Generator[Pixels, None, None]:
        """Uint8 (B, S, S, 3) for each array of indices."""
        for index in batches:
            yield self.array.take(index, 0)
