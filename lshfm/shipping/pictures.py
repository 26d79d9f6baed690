"""Pictures as people have them, and what a network takes: decoded, resized, normalised."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lshfm.datasets.augment import normalise, send
from lshfm.datasets.box_loader import BoxView
from lshfm.datasets.images import FileImages, pixels_of, upright_rgb
from lshfm.datasets.split import Pixels
from lshfm.errors import InputError

Picture = str | Path | Image.Image | NDArray[Any]  # arrays: RGB uint8 (h, w, 3), or grey (h, w)


class ToPixels(Protocol):
    """What of a picture a network is given."""

    def pixels(self, image: Picture) -> Pixels: ...


@dataclass(frozen=True)
class OwnSize:
    """Pictures stay as large as they are; the network resizes them itself, its shorter side to `size`.

    mean, std: of red, green and blue, for pixels in [0, 1], by which a network's input is normalised.
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def pixels(self, image: Picture) -> Pixels:
        """RGB, uint8 (h, w, 3). Raises BrokenImage, an InputError, for what cannot be read."""
        return np.array(opened(image))

    def normalised(self, pixels: Pixels, device: torch.device) -> Tensor:
        """Uint8 (h, w, 3) to float32 (3, h, w) on a device, to the bits of training and evaluation."""
        return BoxView(self.mean, self.std)(send(torch.from_numpy(pixels), device), mirrored=False)


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

    def normalised(self, pixels: Pixels | Tensor, *, channels_last: bool = False) -> Tensor:
        """Uint8 (B, size, size, 3) to float32 (B, 3, size, size)."""
        return normalise(torch.as_tensor(pixels), self.mean, self.std, channels_last=channels_last)


@dataclass(frozen=True, eq=False)
class InMemory:
    """Pictures that are decoded already, as the data sets' `Images`."""

    pictures: Sequence[Picture]
    transform: ToPixels

    def __len__(self) -> int:
        return len(self.pictures)

    def pixels(self, index: int, size: int) -> Pixels:  # noqa: ARG002 - the transform's own
        return self.transform.pixels(self.pictures[index])

    def picture(self, index: int) -> Image.Image:
        return opened(self.pictures[index])

    def where(self, index: int) -> str:
        picture = self.pictures[index]
        return str(picture) if isinstance(picture, str | Path) else f"image {index}"

    def signature(self) -> str:
        raise InputError("pictures in memory are in no store")

    fingerprint = signature


def is_path(pictures: InMemory, index: int) -> bool:
    """Whether a picture was given as a file's path."""
    return isinstance(pictures.pictures[index], str | Path)


def opened(image: Picture) -> Image.Image:
    """RGB in its own size, upright. Raises BrokenImage, an InputError, for what cannot be read."""
    if isinstance(image, str | Path):
        return FileImages((Path(image).expanduser(),)).picture(0)
    return upright_rgb(image if isinstance(image, Image.Image) else _as_picture(image))


def _as_picture(image: object) -> Image.Image:
    """An array as a picture. Raises InputError for one that is none."""
    array = np.asarray(image)
    is_picture = array.dtype == np.uint8 and (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4)))
    if not is_picture or not array.size:
        raise InputError(f"an array must be uint8 (h, w, 3), RGB, or (h, w), and is {array.dtype} {array.shape}")
    return Image.fromarray(array)
