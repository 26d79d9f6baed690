"""The labels that the task of multi-label classification takes."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from lshfm.config.check import group_of
from lshfm.config.groups import Dataset
from lshfm.datasets.shapes import Shapes
from lshfm.datasets.split import Split
from lshfm.errors import InputError
from lshfm.tasks.multilabel import MultiLabel


@dataclass(frozen=True)
class Labelled:
    """Shapes with other labels."""

    labels: Any

    def split(self, name: str) -> Split:
        return replace(Shapes(num_train=2, num_eval=2).split(name), labels=self.labels)


def data_set(labels: Any = None, **known: Any) -> Dataset:
    node = {"_target_": "tests.tasks.test_multilabel_labels.Labelled", "labels": labels, "name": "mine"}
    return group_of(Dataset, node | {"task": "multilabel", "metric": "voc2010", "devkit": False} | known, "mine")


GOOD = np.full((2, 12), -1, np.int8)


def test_labels_of_its_kind_are_taken() -> None:
    (split,) = MultiLabel().read(data_set(GOOD), ["train"])
    assert (split.labels == GOOD).all()


@pytest.mark.parametrize("labels", [GOOD.astype(np.int64), GOOD[:, :1], np.full((2, 12), 2, np.int8)])
def test_labels_of_another_kind_are_refused(labels: Any) -> None:
    with pytest.raises(
        InputError, match=r"takes labels that are int8 \(2, 12\) of -1, 0 and 1; those of split 'train'"
    ):
        MultiLabel().read(data_set(labels), ["train"])
