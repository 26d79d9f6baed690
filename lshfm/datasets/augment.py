"""Flip, colour jitter and normalisation of whole batches of uint8 pixels, on whatever device they lie.

On a CPU every value equals Pillow's (ImageOps.mirror, ImageEnhance) and torchvision's (ToTensor, Normalize).
"""

from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from itertools import permutations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lshfm.checks import is_number, is_whole
from lshfm.datasets import keyed
from lshfm.datasets.keyed import Stream
from lshfm.datasets.pad_crop import offsets, pad_crop
from lshfm.errors import InputError


class Kind(IntEnum):
    """What a round of jitter changes."""

    BRIGHTNESS = 0
    CONTRAST = 1
    SATURATION = 2


_FACTOR_STREAMS = {
    Kind.BRIGHTNESS: Stream.BRIGHTNESS,
    Kind.CONTRAST: Stream.CONTRAST,
    Kind.SATURATION: Stream.SATURATION,
}


@dataclass(frozen=True)
class Augment:
    """Zero padding by `pad` pixels and a crop back, horizontal flip with probability `flip`, then colour jitter.

    A strength x gives every image its own factor, uniform in [1 - x, 1 + x]; the order of brightness,
    contrast and saturation is every image's own too. All of it depends on (seed, epoch, index) alone.
    """

    flip: float = 0.5
    brightness: float = 0.3
    contrast: float = 0.3
    saturation: float = 0.3
    pad: int = 0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name != "pad" and (not is_number(value) or not 0 <= value <= 1):
                raise InputError(f"{name}={value} is not a number from 0 to 1")
        if not is_whole(self.pad) or self.pad < 0:
            raise InputError(f"pad={self.pad} is not a whole number of at least 0")

    def __call__(self, pixels: Tensor, index: Tensor, *, seed: int, epoch: int) -> Tensor:
        """Uint8 (B, S, S, 3) to the same; `index` is int64 (B,) on the CPU."""
        samples = index.numpy()
        if self.pad > 0:
            pixels = pad_crop(pixels, offsets(samples, self.pad, seed=seed, epoch=epoch), self.pad)
        if self.flip > 0:
            pixels = mirror(pixels, self.flips(samples, seed=seed, epoch=epoch))
        kinds, factors = self.jitters(samples, seed=seed, epoch=epoch)
        return jitter(pixels, kinds, factors)

    def flips(self, index: NDArray[np.int64], *, seed: int, epoch: int) -> NDArray[np.bool_]:
        """Which images are mirrored, (B,)."""
        return keyed.uniform(seed, epoch, index, Stream.FLIP) < self.flip

    def jitters(
        self, index: NDArray[np.int64], *, seed: int, epoch: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Every image's kinds in its order, and their factors: both (B, K), K strengths being above 0."""
        strengths = dict(zip(Kind, (self.brightness, self.contrast, self.saturation), strict=True))
        orders = np.array(list(permutations(kind for kind, x in strengths.items() if x > 0)), np.int64)
        choice = keyed.uniform(seed, epoch, index, Stream.JITTER_ORDER) * len(orders)
        kinds = orders[choice.astype(np.int64)]
        factors = [
            1 - x + 2 * x * keyed.uniform(seed, epoch, index, _FACTOR_STREAMS[kind]) for kind, x in strengths.items()
        ]
        return kinds, np.take_along_axis(np.stack(factors, axis=1), kinds, axis=1)


def mirror(pixels: Tensor, flips: NDArray[np.bool_]) -> Tensor:
    """Left and right swapped in the images where `flips` (B,) holds; pixels (B, S, S, 3)."""
    chosen = send(torch.from_numpy(flips.astype(np.uint8)), pixels.device).view(-1, 1, 1, 1)
    return pixels ^ ((pixels ^ pixels.flip(2)) * chosen)  # torch.where: 8 times as slow on bytes on a CPU


def jitter(pixels: Tensor, kinds: NDArray[np.int64], factors: NDArray[np.float64]) -> Tensor:
    """Round k changes image b by `kinds[b, k]` with `factors[b, k]`; uint8 (B, S, S, 3) to the same.

    As in Pillow, the image and its degenerate form are blended, the factor being the image's share: black for
    brightness, the rounded mean grey for contrast, the grey image for saturation.
    """
    if not kinds.size:
        return pixels
    rounds = np.stack([factors, kinds == Kind.CONTRAST, kinds == Kind.SATURATION]).astype(np.float32)
    weights = send(torch.from_numpy(rounds), pixels.device)[..., None, None, None]  # (3, B, K, 1, 1, 1)
    planes = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    for k in range(kinds.shape[1]):
        _blend_(planes, *weights[:, :, k])
    return planes.to(torch.uint8).permute(0, 2, 3, 1)


def normalise(
    pixels: Tensor, mean: tuple[float, ...], std: tuple[float, ...], *, channels_last: bool = False
) -> Tensor:
    """(pixels / 255 - mean) / std: uint8 (B, S, S, 3) to float32 (B, 3, S, S), NCHW or channels_last."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    full, centre, scale = constants(mean, std, pixels.device)
    planes = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=layout)
    return planes.div_(full).sub_(centre).div_(scale)


def _blend_(planes: Tensor, factor: Tensor, is_contrast: Tensor, is_saturation: Tensor) -> None:
    """One round in place on float32 (B, 3, S, S) holding whole numbers; the weights are (B, 1, 1, 1)."""
    grey = _luma(planes)
    # Sums of a row are whole numbers below 2^24, hence exact in float32 whatever their order.
    mean = grey.sum(3, keepdim=True).sum(2, keepdim=True, dtype=torch.float64) / grey[0].numel()
    mean = (mean + 0.5).floor_().to(torch.float32)
    degenerate = grey.mul_(is_saturation).add_(mean * is_contrast)
    # Product and sum are rounded apart, as Pillow does: a fused multiply-add (lerp, addcmul) would differ.
    planes.sub_(degenerate).mul_(factor).add_(degenerate).clamp_(0, 255).floor_()


def _luma(planes: Tensor) -> Tensor:
    """Pillow's (19595 R + 38470 G + 7471 B + 32768) >> 16, (B, 1, S, S); below 2^24, so exact in float32."""
    luma = planes[:, 0:1] * 19595
    luma.add_(planes[:, 1:2], alpha=38470).add_(planes[:, 2:3], alpha=7471)
    return luma.add_(32768).mul_(2.0**-16).floor_()


@lru_cache
def constants(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """255, mean and std as tensors on the device; 255 too, as CUDA multiplies by a plain number's reciprocal."""
    full = torch.tensor(255.0, device=device)
    centre, scale = (torch.tensor(v, dtype=torch.float32, device=device).view(3, 1, 1) for v in (mean, std))
    return full, centre, scale


def send(values: Tensor, device: torch.device) -> Tensor:
    """Copy values to the device, without making the host wait where that is CUDA."""
    if device.type != "cuda" or values.is_cuda:
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)
