"""Mixup and cutmix: a batch's pictures mixed in pairs, keyed by (seed, epoch, the batch's first sample)."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lshfm.checks import is_number
from lshfm.datasets import keyed
from lshfm.datasets.augment import send
from lshfm.datasets.keyed import Stream
from lshfm.errors import InputError


@dataclass(frozen=True)
class Mixing:
    """Every picture of a batch is mixed with another of it: x = share * x + (1 - share) * x[order], one share a batch.

    The first with the second, the third with the fourth and so on, as shuffling has dealt them: so that ranks with an
    even number each mix as one alone does. The last of an odd number stays as it is.

    mixup: both pictures lie over each other (Zhang et al. 2018, arXiv 1710.09412); cutmix: a rectangle of the second
    lies on the first, and the share is that of the pixels that are left (Yun et al. 2019, arXiv 1905.04899). Each value
    is the a of the Beta(a, a) that shares are drawn from, 0 for neither; of both, chance takes one for each batch.

    What is learnt from mixed pictures: of losses on labels share * loss(first labels) + (1 - share) * loss(second).
    Mimicking losses compare the outputs for the mixed picture, which the teacher sees, too: nothing of theirs is mixed;
    where they count the teacher's right answers, a picture counts by the share of the label that is answered.
    """

    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not is_number(value) or not 0 <= value < math.inf:
                raise InputError(f"{name}={value} is not a finite number of at least 0")

    def __bool__(self) -> bool:
        return self.mixup > 0 or self.cutmix > 0

    def __call__(
        self, images: Tensor, labels: Tensor, index: Tensor, *, seed: int, epoch: int
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Images (B, 3, S, S) mixed, and (the second labels (B, ...), the first ones' share).

        index: of the samples of all ranks' batch, on the CPU.
        """
        first = int(index[0])
        random = np.random.Generator(np.random.PCG64(int(keyed.bits(seed, epoch, first, Stream.MIX)[0])))
        takes_cutmix = self.cutmix > 0 and (self.mixup == 0 or random.random() < 0.5)
        a = self.cutmix if takes_cutmix else self.mixup
        share = float(random.beta(a, a))
        order = send(partners(len(images)), images.device)
        if takes_cutmix:
            rows, columns = rectangle(images.shape[2], images.shape[3], share, random.random(2))
            images = images.clone()
            images[:, :, rows, columns] = images[order][:, :, rows, columns]
            covered = (rows.stop - rows.start) * (columns.stop - columns.start)
            share = 1 - covered / (images.shape[2] * images.shape[3])
        else:
            images = share * images + (1 - share) * images[order]
        return images, (labels[order], send(torch.tensor(share, dtype=torch.float32), images.device))


def partners(n: int) -> Tensor:
    """The place of each picture's partner, int64 (n,)."""
    order = torch.arange(n) ^ 1
    return order.clamp_(max=n - 1)


def rectangle(height: int, width: int, share: float, centre: NDArray[np.float64]) -> tuple[slice, slice]:
    """Rows and columns of a rectangle of sqrt(1 - share) of each side, around a centre (2,) in [0, 1), cut at edges."""
    side = math.sqrt(1 - share)
    cuts = []
    for length, at in zip((height, width), centre.tolist(), strict=True):
        middle, half = int(at * length), int(length * side) / 2
        cuts.append(slice(max(0, round(middle - half)), min(length, round(middle + half))))
    return cuts[0], cuts[1]
