"""Opening data for a command: splits, pixels, batches; each rank has its share of them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lshfm.config import schema
from lshfm.config.build import build
from lshfm.console import logger, progress
from lshfm.datasets.augment import Augment
from lshfm.datasets.decode import find_broken
from lshfm.datasets.images import refuse_missing
from lshfm.datasets.loader import DecodedPixels, Index, Loader, PixelSource, Share, StoredPixels, View, holdout
from lshfm.datasets.split import Split
from lshfm.datasets.store import choose_cache, find_store, open_store, pixel_key, store_bytes
from lshfm.errors import InputError
from lshfm.ranks.group import first_on_each_machine, num_ranks, place, rank

Values = dict[str, Any]


def build_source(dataset: Values) -> Any:
    """What reads the splits of a data set."""
    common = {f.name for f in fields(schema.Dataset)}
    return build({name: value for name, value in dataset.items() if name not in common})


def read_splits(dataset: Values, names: Sequence[str]) -> list[Split]:
    """Read the named splits of a data set and check that they have the same classes."""
    source = build_source(dataset)
    splits = [source.split(name) for name in names]
    if any(split.classes != splits[0].classes for split in splits):
        raise InputError(f"the splits {', '.join(names)} of {dataset['name']} have different classes")
    return splits


def open_pixels(split: Split, dataset: Values, workers: int | None) -> tuple[PixelSource, Index]:
    """A split's pixels, from a store or decoded as they are needed, and which of its samples can be used.

    A machine's first rank builds a store, while the others wait.
    """
    return first_on_each_machine(lambda: _open_pixels(split, dataset, workers))


def _open_pixels(split: Split, dataset: Values, workers: int | None) -> tuple[PixelSource, Index]:
    if not dataset["skip_broken"]:
        refuse_missing(split)
    cores = len(os.sched_getaffinity(0))
    builders = cores if workers is None else workers  # at work while the machine's other ranks wait
    workers = max(cores // place().local_num, 1) if workers is None else workers
    folder, size = Path(dataset["cache_dir"]).expanduser(), dataset["size"]
    # The count keeps apart what one folder can give: COCO's annotated images and all, with a store each.
    name = f"{dataset['name']}_{split.name}_{len(split)}".replace("/", "-")
    there = find_store(split.images, size, folder, name=name) if dataset["cache"] != "off" else None
    use_store, sentence = choose_cache(dataset["cache"], 0 if there else store_bytes(len(split), size), folder)
    logger.info("%s: %s", split.name, f"Pixels come from the store {there.path}." if there else sentence)
    skip = dataset["skip_broken"]
    source: PixelSource
    with progress(f"decoding {split.name}") as report:
        if use_store:
            store = open_store(split.images, size, folder, name=name, workers=builders, report=report, skip_broken=skip)
            source, broken = StoredPixels(store), store.broken
        else:
            source = DecodedPixels(split.images, size, workers)
            broken = find_broken(split.images, size, workers, report) if skip else ()
    if broken:
        logger.warning("%s: %d broken images are left out (dataset.skip_broken=true)", split.name, len(broken))
    return source, np.setdiff1d(np.arange(len(split)), broken)


def make_view(dataset: Values, augment: Values | None, *, channels_last: bool) -> View:
    """How pixels become input; `augment` None shows images as they are."""
    for name in ("mean", "std"):
        if len(dataset[name]) != 3:
            raise InputError(f"dataset.{name}={dataset[name]}: must be three numbers, for red, green and blue")
    change = Augment(**augment) if augment else None
    return View(tuple(dataset["mean"]), tuple(dataset["std"]), change, channels_last)


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
    def open(cls, train: Split, test: Split, values: Values, where: torch.device) -> "TrainingData":
        """Open both splits' pixels and cut them into batches, as the settings say."""
        dataset, order = values["dataset"], values["channels_last"]
        pixels, usable = open_pixels(train, dataset, values["workers"])
        learn, held_out = (usable[part] for part in holdout(len(usable), dataset["holdout"]))
        batches = Loader(
            pixels, train.labels, indices=learn, batch_size=values["batch_size"], device=where, shuffle=True,
            drop_last=True, view=make_view(dataset, values["augment"], channels_last=order), seed=values["seed"],
            share=own_share(),
        )  # fmt: skip
        test_batches = plain_loader(*open_pixels(test, dataset, values["workers"]), test, values, where)
        validation = plain_loader(pixels, held_out, train, values, where) if len(held_out) else test_batches
        keys = {split.name: pixel_key(split.images, dataset["size"]) for split in (train, test)}
        return cls(train, test, batches, validation, test_batches, keys)

    @property
    def validation_name(self) -> str:
        """Where the best epoch is looked for."""
        if self.validation is self.test:
            return f"{self.test_split.name}, the test split itself: the best epoch is flattered"
        return f"{len(self.validation.indices)} images held out of {self.train_split.name}"

    def describe(self) -> list[str]:
        """Lines for the log."""
        lines = [describe_split(self.train_split, len(self.batches.indices), "train on")]
        if self.validation is not self.test:
            lines.append(f"validate on {self.validation_name}")
        return [*lines, describe_split(self.test_split, len(self.test.indices), "test on")]


def own_share() -> Share:
    """This rank's part of every loader's work."""
    return Share(rank(), num_ranks())


def plain_loader(pixels: PixelSource, indices: Index, split: Split, values: Values, where: torch.device) -> Loader:
    """Evaluation batches: every sample once, in order, as it is; each rank has some of them."""
    return Loader(
        pixels, split.labels, indices=indices, batch_size=values["eval_batch_size"], device=where, shuffle=False,
        drop_last=False, view=make_view(values["dataset"], None, channels_last=values["channels_last"]),
        share=own_share(),
    )  # fmt: skip


def describe_split(split: Split, used: int, what_for: str) -> str:
    """A line on a split: images, labels, what is difficult."""
    positives, difficult = int((split.labels > 0).sum()), int((split.labels == 0).sum())
    return (
        f"{what_for} {split.name}: {used} of {len(split)} images, {len(split.classes)} classes, "
        f"{positives / max(len(split), 1):.2f} positive labels an image, {difficult} difficult ones"
    )
