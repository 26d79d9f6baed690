"""A view whose pictures are made by two kernels of a GPU instead of sixty; see `kernels`."""

import logging
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from lshfm.datasets.augment import Augment, Kind, send
from lshfm.datasets.loader import View

log = logging.getLogger("lshfm")

ALLOWED = 1e-5  # share of values that may differ, by 1 of 255 at most


def has_kernels(device: torch.device) -> bool:
    """Whether there may be kernels for a device."""
    return device.type == "cuda"


@dataclass(frozen=True)
class FusedView(View):
    """As View. The kernels are used once their first pictures have equalled those of the plain operations.

    Where they cannot be compiled, or differ, the log says so and the plain operations go on.
    """

    _verdict: list[bool] = field(default_factory=list, compare=False, repr=False)  # empty before the first pictures

    @property
    def is_fused(self) -> bool:
        """Whether the kernels are used, which no one knows before the first pictures."""
        return self._verdict == [True]

    def __call__(self, pixels: Tensor, index: Tensor, *, seed: int, epoch: int) -> Tensor:
        """Uint8 (B, S, S, 3) to float32 (B, 3, S, S) on the same device."""
        augment = self.augment
        if augment is None or not has_kernels(pixels.device) or self._verdict == [False]:
            return super().__call__(pixels, index, seed=seed, epoch=epoch)
        if self._verdict:
            return self._made(augment, pixels, index, seed, epoch)
        plain = super().__call__(pixels, index, seed=seed, epoch=epoch)
        self._verdict.append(self._agrees(plain, augment, pixels, index, seed, epoch))
        return plain

    def _agrees(self, plain: Tensor, augment: Augment, pixels: Tensor, index: Tensor, seed: int, epoch: int) -> bool:
        try:
            made = self._made(augment, pixels, index, seed, epoch)
        except Exception as error:  # noqa: BLE001 - compilers raise nearly anything
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            log.info("the augmentation goes operation by operation: %s", reason)
            return False
        difference = (made - plain).abs_() * torch.tensor(self.std, device=plain.device).view(3, 1, 1) * 255
        most, share = float(difference.max()), float((difference > 0.5).float().mean())
        if most > 1.5 or share > ALLOWED:
            log.warning(
                "the augmentation goes operation by operation: its kernels differ by up to %.1f of 255, in %.2g of the "
                "values", most, share,
            )  # fmt: skip
        return most <= 1.5 and share <= ALLOWED

    def _made(self, augment: Augment, pixels: Tensor, index: Tensor, seed: int, epoch: int) -> Tensor:
        from lshfm.datasets import kernels  # triton is imported where it is used

        samples, device = index.numpy(), pixels.device
        kinds, factors = augment.jitters(samples, seed=seed, epoch=epoch)
        rounds = np.stack([factors, kinds == Kind.CONTRAST, kinds == Kind.SATURATION], axis=-1).astype(np.float32)
        flips = augment.flips(samples, seed=seed, epoch=epoch).astype(np.uint8)
        return kernels.make(
            pixels, send(torch.from_numpy(flips), device), send(torch.from_numpy(rounds), device),
            _constants(self.mean, self.std, device), channels_last=self.channels_last,
        )  # fmt: skip


@lru_cache
def _constants(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor([255.0, *mean, *std], device=device)
