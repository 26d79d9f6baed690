"""Opens a data set of pictures for a task: splits, pixels from a store or decoded, batches, each rank its share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lshfm.config.build import build
from lshfm.config.groups import Dataset
from lshfm.config.schema import Training
from lshfm.console import logger
from lshfm.datasets.cutting import Index, Share
from lshfm.datasets.holdout import Shows
from lshfm.datasets.images import FileImages, as_now, refuse_missing
from lshfm.datasets.in_memory import ArrayImages, ArrayPixels
from lshfm.datasets.index import read_split
from lshfm.datasets.loader import DecodedPixels, Loader, PixelSource, StoredPixels, View
from lshfm.datasets.mixing import Mixing
from lshfm.datasets.reader import Reader, class_difference
from lshfm.datasets.resident import resident
from lshfm.datasets.split import Split
from lshfm.datasets.store import pixel_key, store_bytes
from lshfm.errors import InputError, at, count
from lshfm.ranks.group import doing, first_on_each_machine, num_ranks, rank
from lshfm.tasks.crops import ADVICE, augmented, open_crops, unchanged
from lshfm.tasks.parts import parted, say_parts
from lshfm.tasks.stores import broken_of, opened_store, say_broken, store_path, workers_of
from lshfm.tasks.views import make_view

Pools = Callable[[np.ndarray], list[np.ndarray]]
# (source, name, classes where they are known, folder of what may be kept of annotations) -> split
TakeSplit = Callable[[Any, str, Sequence[str] | None, Path | None], Split]

NO_SPLIT = "none"  # as dataset.eval_split


def build_source(dataset: Dataset) -> Any:
    """The reader of a data set's splits, which its `_target_` names."""
    return build(dataset.own, at="dataset")


def split_names(source: Any, dataset: Dataset) -> list[str]:
    """The splits to read: to train on, and to test on unless what is held out of the first does for that.

    Raises InputError where nothing is held out and no split is to be tested on.
    """
    train, other = dataset.train_split, dataset.eval_split
    with at("dataset"):
        is_alone = isinstance(source, Reader) and bool(dataset.holdout) and source.is_alone(train, other)
    if other == NO_SPLIT and not dataset.holdout:
        raise InputError(f"dataset.eval_split={NO_SPLIT}: add dataset.holdout=0.2 to test on a part of {train}")
    return [train] if is_alone or other == NO_SPLIT else [train, other]


def read_splits(dataset: Dataset, names: Sequence[str], take: TakeSplit = read_split) -> list[Split]:
    """Read the named splits of a data set and check that they have the same classes.

    Of the two of training, the second is the first itself where nothing but its held-out part is there to test on.
    take: what gives a split.
    """
    source = build_source(dataset)
    to_read = list(names)
    if to_read == [dataset.train_split, dataset.eval_split]:
        to_read = split_names(source, dataset)
    splits: list[Split] = []
    folder = Path(dataset.cache_dir).expanduser() if dataset.cache != "off" and dataset.cache_dir else None
    with at("dataset"), doing(f"reading {dataset.name}"):
        for name in to_read:
            classes = splits[0].classes if splits else dataset.known_classes
            splits.append(as_now(take(source, name, classes, folder)))
    for split in splits:
        if split.classes != splits[0].classes:
            differ = f"those of {split.name} {class_difference(splits[0].classes, split.classes)}"
            raise InputError(f"the splits {', '.join(names)} of {dataset.name} have different classes: {differ}")
    if len(splits) == 2 and isinstance(splits[0].images, FileImages) and splits[0].images == splits[1].images:
        logger.warning(
            "%s and %s are the same images: what is tested on is learnt, too; dataset.holdout=0.2 "
            "dataset.eval_split=%s keeps a part of them to test on", *to_read, NO_SPLIT,
        )  # fmt: skip
    return splits if len(splits) == len(names) else [splits[0]] * len(names)


def open_pixels(
    split: Split, dataset: Dataset, workers: int | None, device: torch.device | None = None
) -> tuple[PixelSource, Index]:
    """A split's pixels, from a store or decoded as they are needed, and which of its samples can be used.

    A machine's first rank builds a store, while the others wait. device: that they are used on time and again; the
    store, or the array that they are, is copied there, as the data set's `cache` says.
    """
    source: PixelSource
    with at("dataset"):
        if isinstance(split.images, ArrayImages) and split.images.size == dataset.size:
            source, usable = ArrayPixels(split.images.array), np.arange(len(split))
        else:
            source, usable = first_on_each_machine(lambda: _open_pixels(split, dataset, workers))
        if device is None:
            return source, usable
        source, sentence = resident(source, device, dataset.cache)
    if sentence:
        logger.info("%s: %s", split.name, sentence)
    if isinstance(source, StoredPixels) and device.type == "cuda":
        source = StoredPixels(source.store, pinned=True)
    return source, usable


def _open_pixels(split: Split, dataset: Dataset, workers: int | None) -> tuple[PixelSource, Index]:
    if not dataset.skip_broken:
        refuse_missing(split)
    size, n = dataset.size, len(split)
    store = opened_store(split, dataset, workers, split.images, size, lambda: store_bytes(n, size))
    source: PixelSource
    if store:
        source, broken = StoredPixels(store), store.broken
    else:
        workers = workers_of(workers)
        source, broken = DecodedPixels(split.images, size, workers, ADVICE), broken_of(split, dataset, size, workers)
    say_broken(split, broken)
    return source, np.setdiff1d(np.arange(n), broken)


@dataclass(frozen=True)
class TrainingData:
    """Batches to train on, to validate on after each epoch, and to test on."""

    train_split: Split
    test_split: Split
    batches: Loader
    validation: Loader  # the test batches themselves where nothing is held out
    test: Loader
    pixels: dict[str, str]  # the key of each split's pixels

    @classmethod
    def open(
        cls, train: Split, test: Split, settings: Training, device: torch.device, shows: Shows | None = None,
        pools: Pools | None = None,
    ) -> "TrainingData":  # fmt: skip
        """Open both splits' pixels and cut them into batches, as the settings say.

        test: `train` itself where its held-out part is tested on. shows: the classes of each training image, where the
        task has such. pools: as of a task.
        """
        dataset, order, size = settings.dataset, settings.channels_last, settings.eval_batch_size
        pixels, usable = open_crops(train, settings) or open_pixels(
            train, dataset, settings.workers, resident_on(settings, device)
        )
        learnt = augmented(pixels, settings)
        learn, held_out = parted(train, dataset, shows, usable)
        if shows is not None and len(held_out) and dataset.holdout_by == "labels":
            say_parts(train, dataset, shows, learn, held_out)
        pooled = pools(train.labels[learn]) if pools and settings.balanced else None
        view = make_view(dataset, settings.augment, channels_last=order, fused=settings.speed == "fast")
        batches = Loader(
            learnt, train.labels, indices=learn, batch_size=settings.batch_size, device=device, shuffle=True,
            drop_last=True, view=view, seed=settings.seed, share=own_share(), pools=pooled,
            mixing=Mixing(settings.augment.mixup, settings.augment.cutmix),
            last_multiple=None if settings.drop_last else _unit(settings),
        )  # fmt: skip
        plain = make_view(dataset, None, channels_last=order)
        kept = plain_loader(unchanged(pixels), held_out, train, plain, size, device) if len(held_out) else None
        if test is train and kept:
            test_batches = kept
        else:
            test_batches = plain_loader(
                *open_pixels(test, dataset, settings.workers, device), test, plain, size, device
            )
        keys = {split.name: pixel_key(split.images, dataset.size) for split in (train, test)}
        return cls(train, test, batches, kept or test_batches, test_batches, keys)

    @property
    def labels(self) -> np.ndarray:
        """Of the images to train on, (n, ...)."""
        return self.batches.labels[self.batches.indices]

    @property
    def about(self) -> dict[str, Any]:
        """What a network should know of the training split beside its classes."""
        return self.train_split.about

    @property
    def stores(self) -> set[Path]:
        """The files that pixels are read from; none where they are decoded in every epoch."""
        return {path for source in (self.batches.pixels, self.test.pixels) if (path := store_path(source))}

    @property
    def validation_split(self) -> Split:
        """The split that the validation batches come from."""
        return self.test_split if self.validation is self.test else self.train_split

    @property
    def validation_name(self) -> str:
        """The data that the best epoch is chosen on, in words."""
        if self.validation is not self.test:
            return f"{count(len(self.validation.indices), 'image')} held out of {self.train_split.name}"
        return f"{self.test_name}, the test split itself: the best epoch is flattered"

    @property
    def test_name(self) -> str:
        """The data that is tested on, in words: a split's name, or what is held out of the training split."""
        if self.test_split is not self.train_split:
            return self.test_split.name
        return f"{count(len(self.test.indices), 'image')} held out of {self.train_split.name}"


def resident_on(settings: Training, device: torch.device) -> torch.device | None:
    """The device that training pixels may lie on; None, which is said, where the host works on them first."""
    if not settings.augment.randaugment:
        return device
    if settings.dataset.cache == "device":
        logger.info(
            "%s: pixels stay on the host, where RandAugment works on them (dataset.cache=device is without it)",
            settings.dataset.train_split,
        )
    return None


def _unit(settings: Training) -> int:
    """What divides every batch: ranks, parts and groups of BatchNorm get as many images each."""
    return num_ranks() * settings.accumulate * (settings.bn_group_size or 1)


def own_share() -> Share:
    """This rank's part of every loader's work."""
    return Share(rank(), num_ranks())


def plain_loader(
    pixels: PixelSource, indices: Index, split: Split, view: View, batch_size: int, device: torch.device
) -> Loader:
    """Evaluation batches: every sample once, in order; each rank has some of them."""
    return Loader(
        pixels, split.labels, indices=indices, batch_size=batch_size, device=device, shuffle=False,
        drop_last=False, view=view, share=own_share(),
    )  # fmt: skip
