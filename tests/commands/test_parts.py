"""Data and networks built from a job's plain values."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lshfm.commands import parts
from lshfm.config.compose import compose, conf_folder
from lshfm.datasets.loader import DecodedPixels, StoredPixels
from lshfm.datasets.shapes import CLASSES
from lshfm.datasets.split import BrokenImage, Pixels, Split
from lshfm.errors import InputError
from lshfm.models.cifar import cifar_classifier

CPU = torch.device("cpu")
TRAIN, TEST = 12, 6


@pytest.fixture
def values(tmp_path: Path) -> dict[str, Any]:
    sizes = [f"++dataset.num_train={TRAIN}", f"++dataset.num_eval={TEST}", "dataset.size=16"]
    batches = ["batch_size=5", "eval_batch_size=4", "model=resnet8", "workers=0"]
    with conf_folder():
        return compose("train", [*sizes, *batches, f"dataset.cache_dir={tmp_path}", "dataset.cache=off"]).values


def splits(values: dict[str, Any]) -> list[Split]:
    return parts.read_splits(values["dataset"], ["train", "test"])


def opened(values: dict[str, Any]) -> parts.TrainingData:
    return parts.TrainingData.open(*splits(values), values, CPU)


def test_splits_are_read_by_name(values: dict[str, Any]) -> None:
    train, test = splits(values)
    assert [(s.name, len(s), s.classes) for s in (train, test)] == [("train", TRAIN, CLASSES), ("test", TEST, CLASSES)]


class TwoWorlds:
    """A data set whose splits have different classes."""

    def split(self, name: str) -> Split:
        return Split(name, (f"only in {name}",), (), np.zeros((0, 1), np.int8), NoImages())


class NoImages:
    def __len__(self) -> int:
        return 0


def test_splits_of_different_classes_are_refused(values: dict[str, Any]) -> None:
    dataset = values["dataset"] | {"_target_": f"{__name__}.TwoWorlds"}
    own = {name: dataset.pop(name) for name in ("seed", "num_train", "num_eval")}
    assert own
    with pytest.raises(InputError, match="the splits a, b of shapes have different classes"):
        parts.read_splits(dataset, ["a", "b"])


def test_without_holdout_the_test_split_validates(values: dict[str, Any]) -> None:
    data = opened(values)
    assert data.validation is data.test
    assert "the best epoch is flattered" in data.validation_name
    assert (len(data.batches), len(data.test)) == (2, 2)  # the last incomplete batch is dropped in training alone
    assert [batch.index.tolist() for batch in data.test.epoch(0)] == [[0, 1, 2, 3], [4, 5]]
    assert len(data.describe()) == 2


def test_a_held_out_part_is_not_trained_on(values: dict[str, Any]) -> None:
    values["dataset"]["holdout"] = 0.25
    data = opened(values)
    held_out = [i for batch in data.validation.epoch(0) for i in batch.index.tolist()]
    learnt = {i for epoch in range(9) for batch in data.batches.epoch(epoch) for i in batch.index.tolist()}
    assert len(held_out) == 3
    assert learnt == set(range(TRAIN)) - set(held_out)
    assert data.validation_name == "3 images held out of train"
    assert any(line.startswith("validate on 3 images") for line in data.describe())


def test_training_images_are_augmented_and_others_are_not(values: dict[str, Any]) -> None:
    data = opened(values | {"augment": values["augment"]})
    assert data.batches.view.augment is not None
    assert data.test.view.augment is None
    first, second = (next(data.test.epoch(epoch)).images for epoch in (0, 1))
    assert torch.equal(first, second)


def test_the_seed_decides_order_and_views(values: dict[str, Any]) -> None:
    def batch(seed: int) -> tuple[list[int], torch.Tensor]:
        first = next(opened(values | {"seed": seed}).batches.epoch(0))
        return first.index.tolist(), first.images

    (order, images), (same_order, same_images), (other_order, _) = batch(0), batch(0), batch(1)
    assert order == same_order != other_order
    assert torch.equal(images, same_images)


def test_pixels_come_from_a_store_or_from_the_images(values: dict[str, Any]) -> None:
    _, test = splits(values)
    decoded, _ = parts.open_pixels(test, values["dataset"], 0)
    stored, usable = parts.open_pixels(test, values["dataset"] | {"cache": "on"}, 0)
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
def test_broken_images_are_left_out_when_asked(values: dict[str, Any], cache: str) -> None:
    split = Split("train", ("x",), ("a", "b", "c"), np.ones((3, 1), np.int8), OneBroken())
    _, usable = parts.open_pixels(split, values["dataset"] | {"cache": cache, "skip_broken": True}, 0)
    assert usable.tolist() == [0, 2]


@pytest.mark.parametrize("name", ["mean", "std"])
def test_a_normalisation_has_three_numbers(values: dict[str, Any], name: str) -> None:
    with pytest.raises(InputError, match=rf"^dataset\.{name}=\[0.5, 0.5\]: must be three numbers"):
        parts.make_view(values["dataset"] | {name: [0.5, 0.5]}, None, channels_last=False)


def test_a_network_is_built_for_the_classes(values: dict[str, Any]) -> None:
    network, loaded = parts.build_network(values["model"], ["a", "b"], 16)
    assert network(torch.zeros(2, 3, 16, 16))[1].shape == (2, 2)
    assert (network.training, loaded) == (True, None)


class Broken(nn.Module):
    """A user's network that keeps the contract, but for `fault`."""

    def __init__(self, num_classes: int, fault: str) -> None:
        super().__init__()
        self.fault, self.layer = fault, nn.Linear(3, num_classes + (fault == "classes"))
        if fault != "width":
            self.num_features = 4 if fault == "feature" else 3

    def forward(self, images: torch.Tensor) -> Any:
        feature = images.mean(dim=(2, 3))
        return self.layer(feature) if self.fault == "logits alone" else (feature, self.layer(feature))


@pytest.mark.parametrize("fault", ["classes", "width", "feature", "logits alone", "none"])
def test_a_users_network_has_to_keep_the_contract(fault: str) -> None:
    node = {"_target_": f"{__name__}.Broken", "fault": fault, "name": "mine", "weights": "none"}
    if fault == "none":
        assert isinstance(parts.build_network(node, ["a", "b"], 8)[0], Broken)
        return
    with pytest.raises(InputError, match=r"^Broken must return \(feature, logits\) of shapes"):
        parts.build_network(node, ["a", "b"], 8)


def test_a_network_without_a_target_is_the_users_error() -> None:
    with pytest.raises(InputError, match="must name what to build, as _target_"):
        parts.build_network({"name": "mine"}, ["a"], 8)


def test_a_librarys_own_weights_are_asked_for() -> None:
    node = {
        "_target_": "lshfm.models.timm_backbone.timm_classifier",
        "arch": "x",
        "pretrained": False,
        "weights": "auto",
    }
    with pytest.raises(InputError, match=r"model\.weights=imagenet .*model\.weights=none"):
        parts.build_network(node, ["a"], 8)


def test_batch_norm_needs_two_values() -> None:
    network = cifar_classifier("resnet8", 2)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(InputError, match=r"too few for BatchNorm here .*raise batch_size"):
        parts.check_batch_norm(network, 4, 1)  # a map of 1 x 1
    parts.check_batch_norm(network, 8, 1)
    parts.check_batch_norm(network, 4, 2)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("channels_last", [False, True])
def test_memory_order(values: dict[str, Any], channels_last: bool) -> None:
    values["channels_last"] = channels_last
    network = parts.place(cifar_classifier("resnet8", 2), CPU, values)
    weight = network.backbone.layer1[0].conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last) is channels_last
    assert (
        next(opened(values).batches.epoch(0)).images.is_contiguous(memory_format=torch.channels_last) is channels_last
    )


def test_the_evaluator_measures_the_whole_split(values: dict[str, Any]) -> None:
    data = opened(values)
    network, _ = parts.build_network(values["model"], CLASSES, 16)
    evaluation, predictions = parts.make_evaluator(data.test, CLASSES, "voc2007", "fp32")(network)
    assert predictions.index.tolist() == list(range(TEST))
    assert (evaluation.name, evaluation.score) == ("voc2007 mAP", evaluation.report["mAPs"]["voc2007"])
    assert evaluation.report["images"] == TEST


def test_a_split_in_words() -> None:
    labels = np.array([[1, 0], [1, 1], [-1, -1], [-1, 0]], np.int8)
    images = type("Four", (NoImages,), {"__len__": lambda _: 4})()
    split = Split("val", ("a", "b"), tuple("wxyz"), labels, images)
    assert parts.describe_split(split, 3, "test on") == (
        "test on val: 3 of 4 images, 2 classes, 0.75 positive labels an image, 2 difficult ones"
    )
