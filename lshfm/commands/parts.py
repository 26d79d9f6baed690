"""Building what commands share: splits, pixels, loaders, networks, the evaluator."""

import copy
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lshfm.config import schema
from lshfm.config.build import build
from lshfm.config.compose import Job
from lshfm.console import Bar, logger, progress
from lshfm.datasets.augment import Augment
from lshfm.datasets.decode import find_broken
from lshfm.datasets.images import refuse_missing
from lshfm.datasets.loader import DecodedPixels, Index, Loader, PixelSource, StoredPixels, View, holdout
from lshfm.datasets.split import Split
from lshfm.datasets.store import choose_cache, find_store, open_store, store_bytes
from lshfm.engine.evaluate import Predictions, predict
from lshfm.engine.state import Evaluation, Objective, make_optimizer
from lshfm.errors import InputError
from lshfm.metrics.multilabel import measure
from lshfm.models.imagenet import resolve
from lshfm.models.sizes import check_size
from lshfm.models.weights import Loaded, load_weights

Values = dict[str, Any]


def read_splits(dataset: Values, names: Sequence[str]) -> list[Split]:
    """Read the named splits of a data set and check that they have the same classes."""
    common = {f.name for f in fields(schema.Dataset)}
    source = build({name: value for name, value in dataset.items() if name not in common})
    splits = [source.split(name) for name in names]
    if any(split.classes != splits[0].classes for split in splits):
        raise InputError(f"the splits {', '.join(names)} of {dataset['name']} have different classes")
    return splits


def open_pixels(split: Split, dataset: Values, workers: int | None) -> tuple[PixelSource, Index]:
    """A split's pixels, from a store or decoded as they are needed, and which of its samples can be used."""
    if not dataset["skip_broken"]:
        refuse_missing(split)
    workers = len(os.sched_getaffinity(0)) if workers is None else workers
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
            store = open_store(split.images, size, folder, name=name, workers=workers, report=report, skip_broken=skip)
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


def build_network(model: Values, classes: Sequence[str], size: int) -> tuple[nn.Module, Loaded | None]:
    """The network with its starting weights, and what these were.

    Raises InputError if it does not keep the contract (feature, logits) with num_features, if its weights do not
    fit, or if it cannot take images of this size.
    """
    keywords = {name: value for name, value in model.items() if name not in {"name", "weights"}}
    weights = str(model.get("weights") or "none")
    arch = str(model.get("arch") or model.get("_target_"))
    if "pretrained" in keywords:  # a library that keeps weights of its own
        if weights == "auto":
            raise InputError(
                f"model.weights is not given for {arch}. Choose one of model.weights=imagenet (its library fetches "
                "them), model.weights=PATH, model.weights=none"
            )
        keywords["pretrained"] = weights == "imagenet"
        weights = "none" if weights == "imagenet" else weights
    network = build(keywords, num_classes=len(classes))
    check_size(network, size)
    _check_contract(network, len(classes), size)
    path = resolve(weights, arch)
    return network, load_weights(network, path, classes) if path else None


def _check_contract(network: nn.Module, num_classes: int, size: int) -> None:
    training = network.training
    network.eval()
    with torch.no_grad():
        output = network(torch.zeros(1, 3, size, size))
    network.train(training)
    width = getattr(network, "num_features", None)
    wanted = [(1, width), (1, num_classes)]
    is_pair = isinstance(output, tuple) and len(output) == 2 and all(isinstance(o, torch.Tensor) for o in output)
    if not is_pair or [tuple(o.shape) for o in output] != wanted:
        got = [tuple(o.shape) for o in output] if is_pair else type(output).__name__
        raise InputError(
            f"{type(network).__name__} must return (feature, logits) of shapes (B, num_features={width}) and "
            f"(B, {num_classes}); for one image it gave {got}"
        )


def describe_network(name: str, network: nn.Module, loaded: Loaded | None) -> str:
    """A line on a network and where its weights come from."""
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    weights = loaded.describe() if loaded else "random"
    return f"{name}: {millions:.2f} M parameters, feature width {network.num_features}; weights: {weights}"


def label_loss(job: Job, role: str) -> tuple[str, nn.Module]:
    """The loss on labels that the group `role` chose, with its name."""
    node = job.values[role]
    settings = {name: value for name, value in node.items() if name not in {"name", "kind"}}
    return str(node.get("name") or job.choices[role]), build(settings)


def optimizer(objective: Objective, values: Values) -> torch.optim.Optimizer:
    """The optimiser that the settings ask for."""
    return make_optimizer(
        objective, values["optimizer"], momentum=values["momentum"], weight_decay=values["weight_decay"]
    )


def check_batch_norm(network: nn.Module, size: int, images: int) -> None:
    """Raise InputError where BatchNorm would see a single value a channel in training."""
    if images > 1:
        return
    try:
        with torch.no_grad():
            copy.deepcopy(network).train()(torch.zeros(1, 3, size, size))
    except ValueError as error:
        raise InputError(f"one image at a time is too few for BatchNorm here ({error}): raise batch_size") from error


def place(network: nn.Module, where: torch.device, values: Values) -> nn.Module:
    """The network on its device, in the asked memory order."""
    order = torch.channels_last if values["channels_last"] else torch.contiguous_format
    return network.to(where).to(memory_format=order)


@dataclass(frozen=True)
class TrainingData:
    """Batches to train on, to validate on after each epoch, and to test on."""

    train_split: Split
    test_split: Split
    batches: Loader
    validation: Loader  # the test batches themselves where nothing is held out
    test: Loader

    @classmethod
    def open(cls, train: Split, test: Split, values: Values, where: torch.device) -> "TrainingData":
        """Open both splits' pixels and cut them into batches, as the settings say."""
        dataset, order = values["dataset"], values["channels_last"]
        pixels, usable = open_pixels(train, dataset, values["workers"])
        learn, held_out = (usable[part] for part in holdout(len(usable), dataset["holdout"]))
        batches = Loader(
            pixels, train.labels, indices=learn, batch_size=values["batch_size"], device=where, shuffle=True,
            drop_last=True, view=make_view(dataset, values["augment"], channels_last=order), seed=values["seed"],
        )  # fmt: skip
        test_batches = plain_loader(*open_pixels(test, dataset, values["workers"]), test, values, where)
        validation = plain_loader(pixels, held_out, train, values, where) if len(held_out) else test_batches
        return cls(train, test, batches, validation, test_batches)

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


def plain_loader(pixels: PixelSource, indices: Index, split: Split, values: Values, where: torch.device) -> Loader:
    """Evaluation batches: every sample once, in order, as it is."""
    return Loader(
        pixels, split.labels, indices=indices, batch_size=values["eval_batch_size"], device=where, shuffle=False,
        drop_last=False, view=make_view(values["dataset"], None, channels_last=values["channels_last"]),
    )  # fmt: skip


def make_evaluator(
    loader: Loader, classes: Sequence[str], metric: str, precision: str, *, features: bool = False
) -> Callable[[nn.Module], tuple[Evaluation, Predictions]]:
    """A function that runs a network over `loader` and measures it by every multi-label metric."""

    def evaluate(network: nn.Module) -> tuple[Evaluation, Predictions]:
        with Bar("evaluating", len(loader)) as bar:
            predictions = predict(network, loader.epoch(0), precision=precision, features=features, report=bar.update)
        report = measure(predictions.logits, predictions.labels, classes, metric)
        return Evaluation(f"{metric} mAP", report["mAP"], report), predictions

    return evaluate


def describe_split(split: Split, used: int, what_for: str) -> str:
    """A line on a split: images, labels, what is difficult."""
    positives, difficult = int((split.labels > 0).sum()), int((split.labels == 0).sum())
    return (
        f"{what_for} {split.name}: {used} of {len(split)} images, {len(split.classes)} classes, "
        f"{positives / max(len(split), 1):.2f} positive labels an image, {difficult} difficult ones"
    )
