"""Training pictures of which each epoch sees other parts: decoded and cropped anew, without a store."""

import os

import numpy as np

from lshfm.config.schema import Training
from lshfm.console import logger, progress
from lshfm.datasets.cropped_pixels import CroppedPixels
from lshfm.datasets.decode import find_broken
from lshfm.datasets.images import refuse_missing
from lshfm.datasets.loader import Index, PixelSource
from lshfm.datasets.split import Split
from lshfm.errors import InputError, at
from lshfm.ranks.group import doing, first_on_each_machine, place

ADVICE = "Mend it, or leave such images out with dataset.skip_broken=true"


def open_crops(split: Split, settings: Training) -> tuple[PixelSource, Index]:
    """Random resized crops of a split's pictures, as augment.area says, and which of its samples can be used."""
    area, dataset = settings.augment.area or [], settings.dataset
    if len(area) != 2:
        raise InputError(f"augment.area={area}: must be two shares, the smallest and the largest, as [0.08,1]")
    if not dataset.skip_broken:
        with at("dataset"):
            refuse_missing(split)
    cores = max(len(os.sched_getaffinity(0)) // place().local_num, 1)
    workers = cores if settings.workers is None else settings.workers
    with at("augment"):
        source = CroppedPixels(split.images, dataset.size, (area[0], area[1]), workers, ADVICE)
    logger.info("%s: pictures are decoded and cropped anew in every epoch (augment.area=%s)", split.name, area)
    if not dataset.skip_broken:
        return source, np.arange(len(split))
    with progress(f"decoding {split.name}") as report, doing(f"decoding {split.name}"):
        broken = first_on_each_machine(lambda: find_broken(split.images, dataset.size, workers, report))
    return source, np.setdiff1d(np.arange(len(split)), broken)


def augmented(pixels: PixelSource, settings: Training) -> PixelSource:
    """The source with RandAugment, where that is asked for."""
    augment = settings.augment
    if not augment.randaugment:
        return pixels
    from lshfm.datasets.randaugment import RandAugmented  # imports torchvision

    with at("augment"):
        return RandAugmented(pixels, augment.randaugment, augment.magnitude)


def unchanged(pixels: PixelSource) -> PixelSource:
    """The source of pictures as they are, where `pixels` gives other parts of them in every epoch."""
    plain: PixelSource = getattr(pixels, "plain", pixels)
    return plain
