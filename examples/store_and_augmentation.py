"""The store of decoded pixels and the keyed augmentation, in a data loader of your own.

Every picture is decoded once; a view depends on (seed, epoch, sample) alone, so a run that is continued, or has another
number of workers or ranks, sees the same.

python examples/store_and_augmentation.py
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from lshfm.datasets.augment import Augment, normalise
from lshfm.datasets.images import FileImages
from lshfm.datasets.store import open_store

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def epoch_of(pixels: np.ndarray, augment: Augment, *, seed: int, epoch: int, batch_size: int) -> list[torch.Tensor]:
    """The batches of an epoch, augmented and normalised: float32 (B, 3, S, S)."""
    order = torch.utils.data.RandomSampler(range(len(pixels)), generator=torch.Generator().manual_seed(seed + epoch))
    loader = DataLoader(range(len(pixels)), batch_size=batch_size, sampler=order)  # of sample numbers
    batches = []
    for index in loader:
        batch = torch.from_numpy(pixels.take(index.numpy(), 0))
        batches.append(normalise(augment(batch, index, seed=seed, epoch=epoch), MEAN, STD))
    return batches


with tempfile.TemporaryDirectory() as folder:
    random = np.random.default_rng(0)
    paths = [Path(folder, f"{number}.png") for number in range(10)]
    for path in paths:
        Image.fromarray(random.integers(0, 256, (40, 60, 3), np.uint8)).save(path)
    store = open_store(
        FileImages(tuple(paths)), 32, Path(folder, "stores"), name="mine", workers=0, report=lambda _done, _total: None
    )
    settings = {"seed": 0, "epoch": 3, "batch_size": 4}
    augment = Augment(flip=0.5, brightness=0.3, contrast=0.3, saturation=0.3)
    first, again = (epoch_of(np.asarray(store.pixels), augment, **settings) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    print(f"{len(first)} batches, the last of {len(first[-1])} images; the same epoch again is the same to the bit")
