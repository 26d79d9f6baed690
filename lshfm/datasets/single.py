"""Splits with one label an image: labels int64 (n,), places in the list of classes."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from lshfm.datasets.checks import first_five
from lshfm.datasets.split import Split
from lshfm.errors import InputError, printable

OneLabel = NDArray[np.int64]


def single_labels(split: Split, name: str) -> OneLabel:
    """The labels of a split that has one an image; of labels int8 (n, C) each image's only +1.

    name: of the data set, for messages. Raises InputError for one class alone, for images with none or several labels,
    and for labels out of range.
    """
    labels, count = split.labels, len(split.classes)
    if count == 1:
        raise InputError(f"{name} {only_class(split.classes)}")
    if labels.dtype == np.int8 and labels.shape == (len(split), count):
        return _only_ones(split, name)
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != (len(split),):
        raise InputError(
            f"the task singlelabel takes one label an image; those of split '{split.name}' of {name} are "
            f"{labels.dtype} {labels.shape}; dataset.task=NAME is another"
        )
    bad = np.flatnonzero((labels < 0) | (labels >= count))
    if bad.size:
        raise InputError(
            f"{bad.size} labels of split '{split.name}' of {name} are out of range, the first {labels[bad[0]]} of "
            f"{printable(split.ids[bad[0]])}: there are {count} classes, 0 to {count - 1}"
        )
    return labels.astype(np.int64)


def only_class(classes: Sequence[str]) -> str:
    """What is wrong with a data set of one class, as a clause that continues its name."""
    return (
        f"has one class, {printable(classes[0])}: with one label an image there is nothing to tell apart. Images that "
        "show something else make another class; folders of classes lie right in the split's folder"
    )


def _only_ones(split: Split, name: str) -> OneLabel:
    present = split.labels > 0
    wrong = np.flatnonzero((present.sum(1) != 1) | (split.labels == 0).any(1))
    if wrong.size:
        shown = present[wrong[0]].sum()
        raise InputError(
            f"{wrong.size} of {len(split)} images of split '{split.name}' of {name} have not one label: "
            f"{first_five(split.ids[i] for i in wrong)} (the first has {shown}).\n"
            "The task singlelabel takes exactly one, not difficult; dataset.task=multilabel takes any number"
        )
    only: OneLabel = present.argmax(1).astype(np.int64)
    return only


def counts_of(labels: OneLabel, classes: Sequence[str]) -> Counter[str]:
    """Images of each class."""
    times = np.bincount(labels, minlength=len(classes)).tolist()
    return Counter(dict(zip(classes, times, strict=True)))


def pools_of(labels: OneLabel) -> Iterator[NDArray[np.int64]]:
    """The images of each class that has any."""
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order], prepend=-1))
    return (np.sort(pool) for pool in np.split(order, starts[1:]))
