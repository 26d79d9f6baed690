"""What no single key of a training run can say, refused before anything is written."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lshfm.config.schema import Train
from lshfm.errors import InputError
from lshfm.ranks import group
from lshfm.ranks.group import Place
from lshfm.runs.check import check_selection, check_training
from tests.jobs import changed, splits, task_of


@pytest.mark.parametrize(
    ("ranks", "others", "message"),
    [
        (3, {}, "batch_size=8 is that of all ranks: their number, 3, must divide it"),
        (1, {"accumulate": 3}, "accumulate=3 must divide batch_size=8"),
        (2, {"accumulate": 8}, "accumulate=8 must divide the 4 images of a batch that a rank gets"),
        (2, {"bn_group_size": 3}, r"bn_group_size=3 must divide 4, .*\(batch_size=8, ranks: 2, accumulate=1\)"),
        (2, {"bn_group_size": 4, "accumulate": 2}, "bn_group_size=4 must divide 2, the images that go through the"),
        (1, {"bn_group_size": 16}, "bn_group_size=16 must divide 8"),
        (1, {"batch_size": 32}, "batch_size=32 is more than the 24 images of train$"),
        (1, {"batch_size": 32, "dataset.holdout": 0.25}, "batch_size=32 .* 24 images of train, 0.25 of which are held"),
    ],
)
def test_refusals(
    settings: Train, monkeypatch: pytest.MonkeyPatch, ranks: int, others: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr(group, "_places", [Place(0, ranks, 0, ranks)])
    with pytest.raises(InputError, match=f"^{message}"):
        check_training(changed(settings, {"batch_size": 8} | others), 24)


@pytest.mark.parametrize(
    ("ranks", "others"),
    [(1, {}), (4, {"accumulate": 2}), (2, {"bn_group_size": 2, "accumulate": 2}), (8, {"bn_group_size": 1})],
)
def test_what_fits(settings: Train, monkeypatch: pytest.MonkeyPatch, ranks: int, others: dict[str, Any]) -> None:
    monkeypatch.setattr(group, "_places", [Place(0, ranks, 0, ranks)])
    check_training(changed(settings, {"batch_size": 8} | others), 24)


def selection(settings: Train, *shown: int, **others: Any) -> None:
    """Check select=best on 12 training images, of which those numbered show a class."""
    train, test = splits(settings)
    labels = np.full_like(train.labels, -1)
    labels[list(shown), 0] = 1
    settings = changed(settings, {"select": "best", "dataset.holdout": 0.25} | others)
    check_selection(settings, task_of(settings), replace(train, labels=labels), test)


def test_a_choice_that_cannot_be_made_is_refused(settings: Train) -> None:
    message = "^select=best has nothing to choose by: none of the 3 images held out of train shows a class"
    for rule in ("labels", "chance"):
        with pytest.raises(InputError, match=message):
            selection(settings, **{"dataset.holdout_by": rule})
    with pytest.raises(InputError, match=r"or choose it by dataset\.holdout_by=labels, or take select=last$"):
        selection(settings, 0, 11, **{"dataset.holdout_by": "chance"})
    selection(settings, 0, 11)
    selection(settings, select="last")
    train, test = splits(settings)
    nothing = replace(test, labels=np.full_like(test.labels, -1))
    on_test = changed(settings, {"select": "best", "allow_test": True})
    with pytest.raises(InputError, match="none of the images of test shows a class"):
        check_selection(on_test, task_of(settings), train, nothing)


def test_what_is_tested_on_is_not_chosen_by(settings: Train) -> None:
    train, _ = splits(settings)
    settings = changed(settings, {"select": "best", "dataset.holdout": 0.25})
    with pytest.raises(InputError, match=r"^select=best would choose .* by the images held out of train, which"):
        check_selection(settings, task_of(settings), train, train)
    check_selection(changed(settings, {"allow_test": True}), task_of(settings), train, train)
