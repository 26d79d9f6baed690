"""Padding and cropping of whole batches, keyed by (seed, epoch, index)."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from lshfm.datasets import keyed
from lshfm.datasets.keyed import Stream


def offsets(index: NDArray[np.int64], pad: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """Top and left of each image's crop in the padded image, (B, 2), uniform in 0..2 * pad."""
    streams = (Stream.CROP_TOP, Stream.CROP_LEFT)
    drawn = [keyed.uniform(seed, epoch, index, stream) * (2 * pad + 1) for stream in streams]
    return np.stack(drawn, axis=1).astype(np.int64)


def pad_crop(pixels: Tensor, tops_lefts: NDArray[np.int64], pad: int) -> Tensor:
    """Images with a black border of `pad` pixels, cut back to their size; uint8 (B, S, S, 3) to the same."""
    side, device = pixels.shape[1], pixels.device
    padded = F.pad(pixels, (0, 0, pad, pad, pad, pad))
    # Copied without making the host wait where the device is CUDA.
    start = torch.from_numpy(tops_lefts)
    start = start.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else start
    along = torch.arange(side, device=device)
    rows, columns = (start[:, axis, None] + along for axis in (0, 1))  # (B, S)
    image = torch.arange(len(pixels), device=device)[:, None, None]
    return padded[image, rows[:, :, None], columns[:, None, :]]
