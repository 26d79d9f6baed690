"""The base class of tasks whose labels are of whole images, all resized to one size: data, batches, networks."""

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from lshfm import errors
from lshfm.config.build import build
from lshfm.config.groups import Dataset, LabelLoss, Network
from lshfm.config.schema import Training
from lshfm.console import Bar
from lshfm.datasets.loader import Loader
from lshfm.datasets.split import Split
from lshfm.engine.evaluate import Predictions, predict
from lshfm.engine.state import Evaluation
from lshfm.errors import InputError
from lshfm.losses.classification import Summed
from lshfm.models.weights import Loaded
from lshfm.ranks.group import on_main
from lshfm.tasks.networks import build_classifier
from lshfm.tasks.pixels import TrainingData, open_pixels, plain_loader, read_splits
from lshfm.tasks.task import Arrays, Evaluate, Task
from lshfm.tasks.views import make_view


class ImageTask(Task):
    """A task whose networks give a number for each of the data set's classes: (B, 3, S, S) -> (B, D), (B, C)."""

    def read(self, dataset: Dataset, names: Sequence[str]) -> list[Split]:
        """The named splits, with the same classes."""
        return read_splits(dataset, names)

    def training_data(self, train: Split, test: Split, settings: Training, device: torch.device) -> TrainingData:
        """Augmented batches to train on, and batches without augmentation to validate and test on."""
        shows = self.shows(train) if settings.dataset.holdout else None  # which of many classes takes much memory
        return TrainingData.open(train, test, settings, device, shows, self.pools)

    def evaluation_batches(
        self, split: Split, dataset: Dataset, device: torch.device, *, workers: int | None, batch_size: int,
        channels_last: bool,
    ) -> Loader:  # fmt: skip
        """The split's images without augmentation."""
        view = make_view(dataset, None, channels_last=channels_last)
        return plain_loader(*open_pixels(split, dataset, workers), split, view, batch_size, device)

    def network(
        self, network: Network, classes: Sequence[str], size: int, *, at: str = "model"
    ) -> tuple[nn.Module, Loaded | None]:
        """A network with one output for each class."""
        return build_classifier(network, classes, size, at=at)

    def evaluation(self, outputs: Predictions, split: Split, metric: str) -> Evaluation:
        """What outputs for images of a split score, `metric` leading, with every other metric in the report.

        A task has this, or an `evaluator` of its own.
        """
        raise NotImplementedError

    def evaluator(
        self, loader: Loader, split: Split, metric: str, precision: str, *, features: bool = False
    ) -> Evaluate:
        """A function that measures every metric; arrays `ids` (n,), `logits` (n, C), `targets` (n, ...)."""

        def evaluate(network: nn.Module) -> tuple[Evaluation, Arrays]:
            """What the network scores; its arrays at rank 0, in the split's order."""
            with Bar("evaluating", len(loader)) as bar:
                outputs = predict(network, loader.epoch(0), precision=precision, features=features, report=bar.update)

            def measured() -> Evaluation:
                assert outputs
                assert len(outputs.index) == len(loader.indices)
                return self.evaluation(outputs, split, metric)

            evaluation = on_main(measured, "computing the metrics")
            return evaluation, {} if outputs is None else arrays_of(outputs, split)

        return evaluate

    def label_loss(
        self, loss: LabelLoss, parts: int, *, at: str, labels: np.ndarray | None = None
    ) -> tuple[str, nn.Module]:
        """The loss, wrapped if its `reduction` is "sum", so that averaging over the parts gives the batch's sum."""
        built = build({name: value for name, value in loss.own.items() if name != "kind"}, at=at)
        if labels is not None:
            set_up(built, loss.title, torch.from_numpy(labels), at=at)
        is_sum = getattr(built, "reduction", "mean") == "sum"
        return loss.title, Summed(built, parts) if is_sum and parts > 1 else built


def arrays_of(outputs: Predictions, split: Split) -> Arrays:
    """What of an evaluation is kept, with the ids of the images."""
    ids = np.array([split.ids[i] for i in outputs.index])
    arrays = {"ids": ids, "logits": outputs.logits, "targets": outputs.labels}
    return arrays if outputs.features is None else arrays | {"features": outputs.features}


def set_up(loss: nn.Module, title: str, *told: Any, at: str) -> None:
    """Tell a label loss that asks for it of the training labels. Raises InputError for one that takes others."""
    ask: Any = getattr(loss, "set_up", None)
    if ask is None:
        return
    try:
        inspect.signature(ask).bind(*told)
    except TypeError as error:
        raise InputError(f"{at}={title} takes labels of another kind than this data set's task has") from error
    with errors.at(at):
        ask(*told)
