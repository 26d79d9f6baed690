"""Checks training settings that depend on each other or on the data, before anything is written."""

import numpy as np

from lshfm.config.groups import LabelLoss
from lshfm.config.schema import Training
from lshfm.datasets.holdout import holdout
from lshfm.datasets.split import Split
from lshfm.errors import InputError, at
from lshfm.ranks.group import num_ranks
from lshfm.tasks.parts import parted
from lshfm.tasks.task import Task
from lshfm.tasks.views import make_view


def check_labels(task: Task, settings: Training, loss: LabelLoss, train: Split, *, at: str) -> None:
    """Raise InputError for a label loss or a sampling that does not suit the labels, before pixels are decoded."""
    task.label_loss(loss, 1, at=at, labels=train.labels)
    if settings.balanced:
        task.pools(train.labels)


def check_training(settings: Training, num_images: int) -> None:
    """Raise InputError for keys that do not go together, or not with this number of training images."""
    batch, cosine, dataset = settings.batch_size, settings.schedule.cosine_epochs, settings.dataset
    accumulate, ranks, group = settings.accumulate, num_ranks(), settings.bn_group_size
    if batch % ranks:
        raise InputError(f"batch_size={batch} is that of all ranks: their number, {ranks}, must divide it")
    share = f"batch_size={batch}" if ranks == 1 else f"the {batch // ranks} images of a batch that a rank gets"
    if batch // ranks % accumulate:
        raise InputError(f"accumulate={accumulate} must divide {share}")
    if group and batch // ranks // accumulate % group:
        raise InputError(
            f"bn_group_size={group} must divide {batch // ranks // accumulate}, the images that go through the network "
            f"at a time (batch_size={batch}, ranks: {ranks}, accumulate={accumulate})"
        )
    if batch > num_images:  # of those that are held out by their labels the number is not known yet
        part = f", {dataset.holdout:g} of which are held out" if dataset.holdout else ""
        raise InputError(f"batch_size={batch} is more than the {num_images} images of {dataset.train_split}{part}")
    with at("dataset"):
        holdout(num_images, dataset.holdout)
    make_view(dataset, settings.augment, channels_last=settings.channels_last)
    if 0 < cosine < settings.epochs:
        raise InputError(f"schedule.cosine_epochs={cosine:g} must be 0 or at least epochs={settings.epochs}")
    if settings.select == "best" and not dataset.holdout and not settings.allow_test:
        raise InputError(
            f"select=best would choose the epoch by the test split ({dataset.eval_split}), which flatters the "
            "result: add dataset.holdout=0.1 to choose on a part of the training split, or allow_test=true"
        )


def check_selection(settings: Training, task: Task, train: Split, test: Split) -> None:
    """Raise InputError where select=best would have nothing to choose the epoch by, or would choose by what is tested.

    test: `train` itself where its held-out part is tested on.
    """
    if settings.select != "best":
        return
    dataset = settings.dataset
    if test is train and not settings.allow_test:
        raise InputError(
            f"select=best would choose the epoch by the images held out of {train.name}, which are tested on, too, and "
            "flatter the result: give a split to test on (dataset.eval_split), or allow_test=true"
        )
    split, part = (
        (train, parted(train, dataset, task.shows(train))[1]) if dataset.holdout else (test, np.arange(len(test)))
    )
    if len(task.absent(split, part)) == len(split.classes):
        held = f"the {len(part)} images held out of {train.name}" if dataset.holdout else f"the images of {test.name}"
        by_chance = " or choose it by dataset.holdout_by=labels," if dataset.holdout_by == "chance" else ""
        raise InputError(
            f"select=best has nothing to choose by: none of {held} shows a class. Hold out more (dataset.holdout),"
            f"{by_chance} or take select=last"
        )
