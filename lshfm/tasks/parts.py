"""The part of a training split that is held out, as a data set's settings say."""

import numpy as np

from lshfm.config.groups import Dataset
from lshfm.console import logger
from lshfm.datasets.checks import first_five
from lshfm.datasets.cutting import Index
from lshfm.datasets.holdout import Shows, holdout, one_sided
from lshfm.datasets.split import Split
from lshfm.errors import at


def parted(train: Split, dataset: Dataset, shows: Shows | None, usable: Index | None = None) -> tuple[Index, Index]:
    """Images of the training split to train on and to hold out, as the data set's settings say.

    shows: the classes of each image, where the task has such. usable: the images that are not broken; all by default.
    """
    usable = np.arange(len(train)) if usable is None else usable
    by_labels = shows[usable] if shows is not None and dataset.holdout_by == "labels" else None
    with at("dataset"):
        learn, held = holdout(len(usable), dataset.holdout, by_labels)
    return usable[learn], usable[held]


def say_parts(train: Split, dataset: Dataset, shows: Shows, learn: Index, held: Index) -> None:
    """Log how a part held out by labels differs from what was asked for."""
    asked = round((len(learn) + len(held)) * dataset.holdout)
    if len(held) != asked:
        logger.info("held out: %d images instead of %d, so that classes are on both sides", len(held), asked)
    one_side = one_sided(shows, learn, held)
    if len(one_side):
        names = first_five(train.classes[column] for column in one_side)
        logger.warning("classes whose images cannot be parted without taking another class's last: %s", names)
