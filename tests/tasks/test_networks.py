"""Networks, losses and evaluators built from a job's plain values."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn

from lshfm.datasets.shapes import CLASSES
from lshfm.errors import InputError
from lshfm.models.cifar import cifar_classifier
from lshfm.ranks import group
from lshfm.ranks.group import Place
from lshfm.tasks import networks
from tests.jobs import CPU, TEST, opened


def test_a_network_is_built_for_the_classes(values: dict[str, Any]) -> None:
    network, loaded = networks.build_network(values["model"], ["a", "b"], 16)
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
        assert isinstance(networks.build_network(node, ["a", "b"], 8)[0], Broken)
        return
    with pytest.raises(InputError, match=r"^Broken must return \(feature, logits\) of shapes"):
        networks.build_network(node, ["a", "b"], 8)


def test_a_network_without_a_target_is_the_users_error() -> None:
    with pytest.raises(InputError, match="must name what to build, as _target_"):
        networks.build_network({"name": "mine"}, ["a"], 8)


def test_a_librarys_own_weights_are_asked_for() -> None:
    node = {
        "_target_": "lshfm.models.timm_backbone.timm_classifier",
        "arch": "x",
        "pretrained": False,
        "weights": "auto",
    }
    with pytest.raises(InputError, match=r"model\.weights=imagenet .*model\.weights=none"):
        networks.build_network(node, ["a"], 8)


@pytest.mark.parametrize(
    ("size", "ranks", "settings", "fits"),
    [
        (4, 1, {"batch_size": 1}, False),  # a map of 1 x 1
        (8, 1, {"batch_size": 1}, True),
        (4, 1, {"batch_size": 2}, True),
        (4, 1, {"batch_size": 2, "accumulate": 2}, False),
        (4, 1, {"batch_size": 8, "bn_group_size": 1}, False),
        (4, 1, {"batch_size": 8, "bn_group_size": 2}, True),
        (4, 2, {"batch_size": 2}, False),
        (4, 2, {"batch_size": 4}, True),
        (4, 1, {"batch_size": 1, "sync_bn": True}, False),
        (4, 2, {"batch_size": 2, "sync_bn": True}, True),
    ],
)
def test_batch_norm_needs_two_values(
    monkeypatch: pytest.MonkeyPatch, size: int, ranks: int, settings: dict[str, Any], fits: bool
) -> None:
    monkeypatch.setattr(group, "_places", [Place(0, ranks, 0, ranks)])
    network = cifar_classifier("resnet8", 2)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    values = {"accumulate": 1, "bn_group_size": None, "sync_bn": False} | settings
    with nullcontext() if fits else pytest.raises(InputError, match=r"too few for BatchNorm here .*raise batch_size"):
        networks.check_batch_norm(network, size, values)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("channels_last", [False, True])
def test_memory_order(values: dict[str, Any], channels_last: bool) -> None:
    values["channels_last"] = channels_last
    network = networks.place(cifar_classifier("resnet8", 2), CPU, values)
    weight = network.backbone.layer1[0].conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last) is channels_last
    assert (
        next(opened(values).batches.epoch(0)).images.is_contiguous(memory_format=torch.channels_last) is channels_last
    )


def test_the_evaluator_measures_the_whole_split(values: dict[str, Any]) -> None:
    data = opened(values)
    network, _ = networks.build_network(values["model"], CLASSES, 16)
    evaluation, predictions = networks.make_evaluator(data.test, CLASSES, "voc2007", "fp32")(network)
    assert predictions.index.tolist() == list(range(TEST))
    assert (evaluation.name, evaluation.score) == ("voc2007 mAP", evaluation.report["mAPs"]["voc2007"])
    assert evaluation.report["images"] == TEST
