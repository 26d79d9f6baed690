"""Which images are held out: by chance, as ever, or so that both sides show the classes."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lshfm.datasets.holdout import Shows, holdout, one_sided
from lshfm.datasets.voc import VOC
from lshfm.errors import InputError


@given(st.integers(2, 400), st.floats(0.01, 0.99))
def test_holdout_parts_the_split(n: int, fraction: float) -> None:
    held = round(n * fraction)
    if not 0 < held < n:
        with pytest.raises(InputError, match=r"^holdout="):
            holdout(n, fraction)
        return
    train, validation = holdout(n, fraction)
    assert len(validation) == held
    assert (np.diff(train) > 0).all()
    assert (np.diff(validation) > 0).all()
    assert sorted([*train.tolist(), *validation.tolist()]) == list(range(n))


def test_holdout_never_changes() -> None:
    assert holdout(10, 0.3)[1].tolist() == [1, 2, 9]
    assert [part.tolist() for part in holdout(3, 0)] == [[0, 1, 2], []]


@pytest.mark.parametrize("fraction", [-0.1, 1, 1.5, float("nan"), float("inf")])
def test_holdout_refuses(fraction: float) -> None:
    with pytest.raises(InputError, match=r"^holdout="):
        holdout(100, fraction)


def drawn(seed: int, n: int, num_classes: int) -> Shows:
    """Classes of all frequencies, from none to about every second image."""
    random = np.random.default_rng(seed)
    return random.random((n, num_classes)) < random.random(num_classes) ** 3 / 2


@given(st.integers(0, 10**6), st.integers(10, 300), st.integers(1, 12), st.sampled_from([0.1, 0.2, 0.5]))
def test_by_labels_every_class_of_two_images_is_on_both_sides(seed: int, n: int, num: int, fraction: float) -> None:
    shows = drawn(seed, n, num)
    train, held = holdout(n, fraction, shows)
    assert sorted([*train.tolist(), *held.tolist()]) == list(range(n))
    assert all(map(np.array_equal, holdout(n, fraction, shows), (train, held)))
    several = shows.sum(axis=0) >= 2
    missed = one_sided(shows, train, held)
    if n >= 40:  # of few images, each may be some class's last on its side
        assert missed.size == 0
    assert set(missed) <= set(np.flatnonzero(several))
    assert len(held) >= round(n * fraction) or missed.size
    assert len(held) <= max(round(n * fraction), several.sum())


def test_by_labels_each_class_has_about_its_share(test_labels: Shows) -> None:
    _, held = holdout(len(test_labels), 0.2, test_labels)
    shares = test_labels[held].sum(axis=0) / test_labels.sum(axis=0)
    assert len(held) == 120
    assert (np.abs(shares - 0.2) < 0.06).all()
    by_chance = test_labels[holdout(len(test_labels), 0.2)[1]].sum(axis=0) / test_labels.sum(axis=0)
    assert np.abs(shares - 0.2).max() < np.abs(by_chance - 0.2).max() / 2


@pytest.fixture
def test_labels(test_data: Path) -> Shows:
    """Of the real piece's 600 training images."""
    return VOC(test_data).split("trainval").labels > 0


def test_a_class_of_two_images_among_many() -> None:
    shows = np.zeros((1000, 2), bool)
    shows[[3, 997], 0] = True
    shows[:, 1] = True
    train, held = holdout(1000, 0.01, shows)
    assert (shows[held].sum(axis=0).tolist(), shows[train].sum(axis=0).tolist()) == ([1, 10], [1, 990])


def test_a_class_that_cannot_be_parted_is_named() -> None:
    """Three images, each with two of three classes: one side always has both images of a class."""
    shows = np.array([[1, 1, 0], [0, 1, 1], [1, 0, 1]], bool)
    assert one_sided(shows, *holdout(3, 0.34, shows)).size == 1
