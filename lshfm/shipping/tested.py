"""The images that a trained network is tested on: a split, or what was held out of the training split."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from lshfm.config.groups import Dataset
from lshfm.datasets.loader import Loader
from lshfm.datasets.split import Split
from lshfm.errors import InputError, count
from lshfm.runs.checkpoint import Checkpoint
from lshfm.tasks.parts import parted
from lshfm.tasks.pixels import build_source, plain_loader, split_names
from lshfm.tasks.task import Task


@dataclass(frozen=True)
class Tested:
    """A split to test on. part: the data set with the share that was held out of it in training; None: all of it.

    is_learnt: of a part, what training learnt from is meant and not what it held out.
    """

    split: Split
    part: Dataset | None
    is_learnt: bool = field(default=False, kw_only=True)

    def batches(
        self, task: Task, dataset: Dataset, device: torch.device, *, workers: int | None, batch_size: int,
        channels_last: bool,
    ) -> Loader:  # fmt: skip
        """Their batches, on the one side of a part."""
        whole = task.evaluation_batches(
            self.split, dataset, device, workers=workers, batch_size=batch_size, channels_last=channels_last
        )
        if self.part is None:
            return whole
        learnt, held = parted(self.split, self.part, task.shows(self.split), whole.indices)
        side = learnt if self.is_learnt else held
        return plain_loader(whole.pixels, side, self.split, whole.view, batch_size, device)

    def title(self, loader: Loader) -> str:
        """What is tested on, in words."""
        return (
            self.split.name
            if self.part is None
            else f"{count(len(loader.indices), 'image')} held out of {self.split.name}"
        )


def read_tested(task: Task, checkpoint: Checkpoint, dataset: Dataset) -> Tested:
    """The evaluation split; where there is none, the training split's part that training held out.

    Raises InputError where that part cannot be told, or where training held out nothing.
    """
    name, train = dataset.eval_split, dataset.train_split
    is_part = name != train and split_names(build_source(dataset), dataset) == [train]
    (split,) = task.read(replace(dataset, known_classes=checkpoint.classes), [train if is_part else name])
    if not is_part:
        return Tested(split, None)
    if checkpoint.data not in (None, split.fingerprint()):
        raise InputError(
            f"{dataset.name} has the split {train} alone, whose images or labels are not those of training, so it is "
            f"unknown which were held out: dataset.eval_split={train} tests on all of them"
        )
    trained = checkpoint.content["dataset"]["values"] if checkpoint.content else {}
    if "holdout" not in trained:
        return Tested(split, dataset)
    if not trained["holdout"]:
        raise InputError(
            f"{checkpoint.path} learnt from all of split {train}, and {dataset.name} has no other one to test on: "
            f"dataset.eval_split={train} tests on what it learnt"
        )
    return Tested(split, as_held_out(dataset, trained))


def read_learnt(task: Task, checkpoint: Checkpoint, dataset: Dataset) -> Tested:
    """The images of the training split that a network learnt from; of another data set's, all of them."""
    (split,) = task.read(replace(dataset, known_classes=checkpoint.classes), [dataset.train_split])
    trained = checkpoint.content["dataset"]["values"] if checkpoint.content else {}
    part = as_held_out(dataset, trained) if "holdout" in trained else dataset
    if not part.holdout or checkpoint.data not in (None, split.fingerprint()):
        return Tested(split, None)
    return Tested(split, part, is_learnt=True)


def as_held_out(dataset: Dataset, trained: Mapping[str, Any]) -> Dataset:
    """The data set with the share that training held out, whatever is typed now; older versions went by chance."""
    return replace(dataset, holdout=float(trained["holdout"]), holdout_by=str(trained.get("holdout_by", "chance")))
