"""The embedded data set: the same for ever, with labels that agree with what is drawn."""

import math
import pickle

import numpy as np
import pytest

from lshfm.datasets import shapes
from lshfm.datasets.shapes import CLASSES, Item, Scene, Shapes
from lshfm.errors import InputError


def square(column: int, left: float, side: float = 20) -> Item:
    """An axis-parallel square with its upper edge at 10."""
    right = left + side - 1
    outline = [(left, 10.0), (right, 10.0), (right, 9 + side), (left, 9 + side)]
    return Item(outline, (255, 0, 0), side**2, column)


def labels_of(objects: list[Item], lines: list[Item] | None = None) -> dict[int, int]:
    """Labels of a made scene, as class -> label, without those that are absent."""
    scene = Scene(0, "train", 0)
    scene.objects, scene.lines = objects, lines or []
    return {column: int(label) for column, label in enumerate(scene.labels()) if label >= 0}


def test_sizes_and_names() -> None:
    data = Shapes(num_train=30, num_eval=20)
    train, test = data.split("train"), data.split("test")
    assert (len(train), len(test)) == (30, 20)
    assert train.classes == test.classes == CLASSES
    assert len(CLASSES) == 12
    assert test.ids[3] == "test_00003"
    assert train.images.where(3) == "drawn image 3 of shapes train"
    default = Shapes()
    assert default.counts == {"train": 4000, "test": 1000}


def test_pixels_depend_on_seed_split_and_index_alone() -> None:
    images = Shapes(seed=3, num_train=5).split("train").images
    first = images.pixels(2, 32)
    assert (first.shape, first.dtype, first.flags.writeable) == ((32, 32, 3), np.uint8, True)
    images.pixels(4, 32)
    np.testing.assert_array_equal(images.pixels(2, 32), first)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(images)).pixels(2, 32), first)
    np.testing.assert_array_equal(Shapes(seed=3, num_train=9).split("train").images.pixels(2, 32), first)
    others = [
        Shapes(seed=4, num_train=5).split("train").images.pixels(2, 32),
        Shapes(seed=3, num_eval=5).split("test").images.pixels(2, 32),
        images.pixels(3, 32),
    ]
    assert all((other != first).mean() > 0.5 for other in others)


def test_other_sizes_show_the_same_picture() -> None:
    images = Shapes(num_train=1).split("train").images
    small, large = images.pixels(0, 16).astype(int), images.pixels(0, 64).astype(int)
    means = large.reshape(16, 4, 16, 4, 3).mean(axis=(1, 3))
    assert abs(means - small).mean() < 5


def test_identity_follows_the_settings() -> None:
    splits = [
        Shapes(num_train=3).split("train"),
        Shapes(num_train=4).split("train"),
        Shapes(num_train=3, seed=1).split("train"),
        Shapes(num_eval=3).split("test"),
    ]
    assert len({split.images.signature() for split in splits}) == 4
    assert len({split.fingerprint() for split in splits}) == 4
    again = Shapes(num_train=3).split("train")
    assert again.images.signature() == splits[0].images.signature()
    assert again.fingerprint() == splits[0].fingerprint()


def test_a_new_way_of_drawing_is_new_data(monkeypatch: pytest.MonkeyPatch) -> None:
    images = Shapes(num_train=3).split("train").images
    before = images.signature()
    monkeypatch.setattr(shapes, "_SIDE", 65)
    assert images.signature() != before


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"num_train": 0}, "num_train=0 must be at least 1"), ({"num_eval": -1}, "num_eval=-1 must be")],
)
def test_empty_splits_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Shapes(**settings)


def test_unknown_splits_are_refused() -> None:
    with pytest.raises(InputError, match=r"tset is not one of train, test \(did you mean 'test'\?\)"):
        Shapes(num_train=1).split("tset")


def test_every_outline_has_area_one() -> None:
    for outline in shapes._SHAPES.values():
        corners = [(point.real, point.imag) for point in outline]
        following = corners[1:] + corners[:1]
        twice = sum(a * d - b * c for (a, b), (c, d) in zip(corners, following, strict=True))
        assert math.isclose(abs(twice) / 2, 1)


def test_uncovered_objects_are_present() -> None:
    assert labels_of([square(2, 5), square(7, 35)]) == {2: 1, 7: 1}


def test_objects_mostly_hidden_by_later_ones_are_difficult() -> None:
    assert labels_of([square(2, 10), square(7, 17)]) == {2: 1, 7: 1}  # 7 of 20 columns show
    assert labels_of([square(2, 10), square(7, 15)]) == {2: 0, 7: 1}  # 5 of 20
    assert labels_of([square(7, 15), square(2, 10)]) == {2: 1, 7: 0}


def test_objects_that_do_not_show_are_absent() -> None:
    assert labels_of([square(2, 10), square(7, 10)]) == {7: 1}
    assert labels_of([square(2, -30), square(7, 10)]) == {7: 1}


def test_tiny_objects_are_difficult() -> None:
    assert labels_of([square(2, 10, side=6), square(7, 30, side=7)]) == {2: 0, 7: 1}


def test_one_plain_object_makes_the_class_present() -> None:
    assert labels_of([square(2, 10), square(2, 40), square(7, 15)]) == {2: 1, 7: 1}
    assert labels_of([square(2, 40), square(2, 10), square(7, 15)]) == {2: 1, 7: 1}


def test_lines_hide_what_is_below() -> None:
    lines = [Item([(0, row), (64, row)], (0, 0, 0)) for row in range(10, 25)]
    assert labels_of([square(2, 10)], lines) == {2: 0}


def test_visible_colours_agree_with_the_labels() -> None:
    """Independently of outlines: of a colour that is not among the labels hardly a pixel is drawn."""
    for index in range(40):
        scene = Scene(0, "test", index)
        colours = {CLASSES[column].split()[0] for column in np.flatnonzero(scene.labels() >= 0)}
        scene.lines = []
        pixels = np.asarray(scene.draw()).astype(int)
        for channel, colour in enumerate(("red", "green", "blue")):
            others = np.delete(pixels, channel, axis=2).max(axis=2)
            strong = (pixels[..., channel] > others + 60).sum()
            assert (strong > 15) <= (colour in colours)


def test_statistics_of_the_default_set() -> None:
    labels = Shapes().split("train").labels
    assert (labels >= 0).any(axis=1).all()
    rates = (labels == 1).mean(axis=0)
    assert 0.13 < rates.min() <= rates.max() < 0.18
    assert 0.002 < (labels == 0).mean() < 0.01
    assert 1.7 < (labels == 1).sum(axis=1).mean() < 2


def test_scenes_are_pinned() -> None:
    """A change here changes users' data and every figure measured on it."""
    labels = Shapes(num_train=3).split("train").labels
    assert [[CLASSES[i] for i in np.flatnonzero(row == 1)] for row in labels] == [
        ["red triangle", "green triangle"],
        ["green square", "blue circle", "blue square"],
        ["green circle"],
    ]
    first = Scene(0, "train", 0).objects[0]
    assert first.colour == (155, 13, 51)
    assert math.isclose(first.area, 486.74145315561304)
