"""Training pictures of which each epoch sees other parts: cropped anew, from files or a store of whole pictures."""

import numpy as np

from lshfm.config.schema import Training
from lshfm.console import logger
from lshfm.datasets.cropped_pixels import CroppedPixels
from lshfm.datasets.cutting import Index
from lshfm.datasets.decode import decode, in_threads
from lshfm.datasets.images import refuse_missing
from lshfm.datasets.loader import PixelSource
from lshfm.datasets.split import Split
from lshfm.datasets.whole import WholePictures
from lshfm.errors import InputError, at
from lshfm.ranks.group import first_on_each_machine
from lshfm.tasks.stores import broken_of, say_broken, whole_pictures, workers_of

ADVICE = "Mend it, or leave such images out with dataset.skip_broken=true"


def open_crops(split: Split, settings: Training) -> tuple[PixelSource, Index] | None:
    """Random resized crops of a split's pictures, as augment.area says, and which of its samples can be used.

    None where no crops are asked for.
    """
    area, short = settings.augment.area, settings.augment.short_side
    if area is None and short:
        raise InputError(f"augment.short_side={short} is of random resized crops: add augment.area=[0.08,1]")
    if area is None:
        return None
    if len(area) != 2:
        raise InputError(f"augment.area={area}: must be two shares, the smallest and the largest, as [0.08,1]")
    with at("augment"):
        plain = CroppedPixels(split.images, settings.dataset.size, (area[0], area[1]))  # refuses what cannot be cropped
    with at("dataset"):
        return first_on_each_machine(lambda: _open_crops(split, settings, plain.area))


def _open_crops(split: Split, settings: Training, area: tuple[float, float]) -> tuple[PixelSource, Index]:
    dataset, short = settings.dataset, settings.augment.short_side or 0
    if not dataset.skip_broken:
        refuse_missing(split)
    workers = workers_of(settings.workers)
    stored = whole_pictures(split, dataset, settings.workers, short)
    if stored:
        broken, run = stored.store.broken, in_threads
    else:
        broken, run = broken_of(split, dataset, dataset.size, workers), decode
    say_broken(split, broken)
    logger.info("%s: pictures are cropped anew in every epoch (augment.area=%s)", split.name, list(area))
    # Without crops they are as evaluation has them: where a store holds smaller ones, from their files.
    pictures = stored or WholePictures(split.images, short)  # type: ignore[arg-type]
    source = CroppedPixels(
        stored if stored and not short else split.images, dataset.size, area, workers, ADVICE,
        pictures=pictures, run=run,
    )  # fmt: skip
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
