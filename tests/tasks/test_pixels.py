"""Data opened as settings say."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lshfm.config.schema import Train
from lshfm.datasets.loader import DecodedPixels, StoredPixels
from lshfm.datasets.shapes import CLASSES
from lshfm.datasets.split import BrokenImage, Pixels, Split
from lshfm.errors import InputError
from lshfm.tasks import pixels
from lshfm.tasks.views import make_view
from tests.jobs import TEST, TRAIN, changed, opened, splits


def test_splits_are_read_by_name(settings: Train) -> None:
    train, test = splits(settings)
    assert [(s.name, len(s), s.classes) for s in (train, test)] == [("train", TRAIN, CLASSES), ("test", TEST, CLASSES)]


class TwoWorlds:
    """A data set whose splits have different classes."""

    def split(self, name: str) -> Split:
        return Split(name, (f"only in {name}",), (), np.zeros((0, 1), np.int8), NoImages())


class NoImages:
    def __len__(self) -> int:
        return 0


def test_splits_of_different_classes_are_refused(settings: Train) -> None:
    dataset = replace(settings.dataset, own={"_target_": f"{__name__}.TwoWorlds"})
    says = "^the splits a, b of shapes have different classes: those of b lack only in a and add only in b$"
    with pytest.raises(InputError, match=says):
        pixels.read_splits(dataset, ["a", "b"])


def test_without_holdout_the_test_split_validates(settings: Train) -> None:
    data = opened(settings)
    assert data.validation is data.test
    assert "the best epoch is flattered" in data.validation_name
    assert (len(data.batches), len(data.test)) == (2, 2)  # the last incomplete batch is dropped in training alone
    assert [batch.index.tolist() for batch in data.test.epoch(0)] == [[0, 1, 2, 3], [4, 5]]
    assert data.validation_split is data.test_split


def test_a_held_out_part_is_not_trained_on(settings: Train) -> None:
    data = opened(changed(settings, {"dataset.holdout": 0.25}))
    held_out = [i for batch in data.validation.epoch(0) for i in batch.index.tolist()]
    learnt = {i for epoch in range(9) for batch in data.batches.epoch(epoch) for i in batch.index.tolist()}
    assert len(held_out) == 3
    assert learnt == set(range(TRAIN)) - set(held_out)
    assert data.validation_name == "3 images held out of train"
    assert data.validation_split is data.train_split


def test_what_is_held_out_is_tested_on_where_there_is_nothing_else(settings: Train) -> None:
    settings = changed(settings, {"dataset.holdout": 0.25, "dataset.eval_split": "none"})
    train, test = pixels.read_splits(settings.dataset, ["train", "none"])
    assert test is train
    data = pixels.TrainingData.open(train, test, settings, torch.device("cpu"))
    assert data.test is data.validation
    assert (len(data.batches.indices), len(data.test.indices)) == (TRAIN - 3, 3)
    assert data.test_name == "3 images held out of train"
    assert set(data.test.indices).isdisjoint(data.batches.indices)
    with pytest.raises(InputError, match=r"^dataset\.eval_split=none: add dataset\.holdout=0\.2 to test on a part of"):
        pixels.read_splits(changed(settings, {"dataset.holdout": 0.0}).dataset, ["train", "none"])


def test_a_part_held_out_by_labels(settings: Train, said: list[str]) -> None:
    """Every class on both sides, if that takes more images than were asked for."""
    settings = changed(settings, {"dataset.holdout": 0.25})
    train, test = splits(settings)
    labels = np.full_like(train.labels, -1)
    for image in range(TRAIN):
        labels[image, image // 2] = 1  # six classes of two images
    train = replace(train, labels=labels)
    data = pixels.TrainingData.open(train, test, settings, torch.device("cpu"), labels > 0)
    assert sorted(image // 2 for image in data.validation.indices) == list(range(6))
    assert "held out: 6 images instead of 3, so that classes are on both sides" in said
    by_chance = changed(settings, {"dataset.holdout_by": "chance"})
    data = pixels.TrainingData.open(train, test, by_chance, torch.device("cpu"), labels > 0)
    assert len(data.validation.indices) == 3


def test_training_images_are_augmented_and_others_are_not(settings: Train) -> None:
    data = opened(settings)
    assert data.batches.view.augment is not None
    assert data.test.view.augment is None
    first, second = (next(data.test.epoch(epoch)).images for epoch in (0, 1))
    assert torch.equal(first, second)


def test_the_seed_decides_order_and_views(settings: Train) -> None:
    def batch(seed: int) -> tuple[list[int], torch.Tensor]:
        first = next(opened(replace(settings, seed=seed)).batches.epoch(0))
        return first.index.tolist(), first.images

    (order, images), (same_order, same_images), (other_order, _) = batch(0), batch(0), batch(1)
    assert order == same_order != other_order
    assert torch.equal(images, same_images)


def test_pixels_come_from_a_store_or_from_the_images(settings: Train) -> None:
    _, test = splits(settings)
    decoded, _ = pixels.open_pixels(test, settings.dataset, 0)
    stored, usable = pixels.open_pixels(test, replace(settings.dataset, cache="on"), 0)
    assert (type(decoded), type(stored)) == (DecodedPixels, StoredPixels)
    index = [np.arange(TEST)]
    assert all(map(np.array_equal, decoded.stream(index), stored.stream(index)))
    assert usable.tolist() == list(range(TEST))


class OneBroken:
    """Pictures of which number 1 cannot be decoded."""

    def __len__(self) -> int:
        return 3

    def pixels(self, index: int, size: int) -> Pixels:
        if index == 1:
            raise BrokenImage("b.jpg", "is truncated")
        return np.full((size, size, 3), index, np.uint8)

    def signature(self) -> str:
        return "0" * 64

    fingerprint = signature

    def where(self, index: int) -> str:
        return "abc"[index] + ".jpg"


@pytest.mark.parametrize("cache", ["on", "off"])
def test_broken_images_are_left_out_when_asked(settings: Train, cache: str) -> None:
    split = Split("train", ("x",), ("a", "b", "c"), np.ones((3, 1), np.int8), OneBroken())
    _, usable = pixels.open_pixels(split, replace(settings.dataset, cache=cache, skip_broken=True), 0)
    assert usable.tolist() == [0, 2]


@pytest.mark.parametrize("cache", ["on", "off"])
def test_a_broken_image_is_named_with_the_key_that_leaves_it_out(settings: Train, cache: str) -> None:
    split = Split("train", ("x",), ("a", "b", "c"), np.ones((3, 1), np.int8), OneBroken())
    with pytest.raises(InputError, match=r"(?s)b\.jpg is truncated\n.*leave .* out with dataset\.skip_broken=true$"):
        list(pixels.open_pixels(split, replace(settings.dataset, cache=cache), 0)[0].stream([np.arange(3)]))


def test_what_is_held_out_is_named_by_its_key(settings: Train) -> None:
    settings = changed(settings, {"dataset.holdout": 0.001})
    with pytest.raises(InputError, match=r"^dataset\.holdout=0\.001 of \d+ images leaves one part empty"):
        opened(settings)


@pytest.mark.parametrize("name", ["mean", "std"])
def test_a_normalisation_has_three_numbers(settings: Train, name: str) -> None:
    with pytest.raises(InputError, match=rf"^dataset\.{name}=\[0.5, 0.5\]: must be three numbers"):
        make_view(replace(settings.dataset, **{name: [0.5, 0.5]}), None, channels_last=False)
