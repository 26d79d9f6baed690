"""Networks built, checked and placed; evaluators."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn

from lshfm.config.check import group_of
from lshfm.config.groups import Network
from lshfm.config.schema import Train
from lshfm.errors import InputError
from lshfm.models.cifar import cifar_classifier
from lshfm.models.detection.build import detector
from lshfm.ranks import group
from lshfm.ranks.group import Place
from lshfm.tasks import networks
from tests.jobs import CPU, changed, opened


def chosen(node: dict[str, Any]) -> Network:
    return group_of(Network, node, "mine")


def test_a_network_is_built_for_the_classes(settings: Train) -> None:
    network, loaded = networks.build_classifier(settings.model, ["a", "b"], 16)
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
        assert isinstance(networks.build_classifier(chosen(node), ["a", "b"], 8)[0], Broken)
        return
    with pytest.raises(InputError, match=r"^Broken must return \(feature, logits\) of shapes"):
        networks.build_classifier(chosen(node), ["a", "b"], 8)


def test_a_network_without_a_target_is_the_users_error() -> None:
    with pytest.raises(InputError, match="must name what to build, as _target_"):
        networks.build_classifier(chosen({"name": "mine"}), ["a"], 8)


def test_a_librarys_own_weights_are_asked_for() -> None:
    node = {
        "_target_": "lshfm.models.timm_backbone.timm_classifier",
        "arch": "x",
        "pretrained": False,
        "weights": "auto",
    }
    with pytest.raises(InputError, match=r"model\.weights=imagenet .*model\.weights=none"):
        networks.build_classifier(chosen(node), ["a"], 8)


class Pretrained(Broken):
    """A user's network with a key that a library of networks has too."""

    def __init__(self, num_classes: int, pretrained: object = None) -> None:
        super().__init__(num_classes, "none")
        self.told = pretrained


@pytest.mark.parametrize("written", [True, False, "supervised"])
def test_a_users_own_key_reaches_its_class_as_written(written: object) -> None:
    node = {"_target_": f"{__name__}.Pretrained", "pretrained": written, "name": "mine", "weights": "none"}
    network = chosen(node)
    built, loaded = networks.build_classifier(network, ["a", "b"], 8)
    assert isinstance(built, Pretrained)
    assert built.told is written
    words = f"those that {__name__}.Pretrained gives itself with pretrained={written}"
    assert networks.starting_weights(network, loaded) == (words if written else "random")
    with pytest.raises(InputError, match=r"write model\.pretrained=true model\.weights=none"):
        networks.build_classifier(network.with_weights("imagenet"), ["a", "b"], 8)


@pytest.mark.parametrize("weights", ["none", "imagenet"])
def test_timm_is_told_by_the_weights_alone(monkeypatch: pytest.MonkeyPatch, weights: str) -> None:
    """Checkpoints of older versions may say pretrained: true, which then did nothing."""
    told = []

    def build(node: Any, **_: Any) -> Broken:
        told.append(node["pretrained"])
        return Broken(2, "none")

    monkeypatch.setattr(networks, "build", build)
    node = {"_target_": "lshfm.models.timm_backbone.timm_classifier", "pretrained": True, "weights": weights}
    networks.build_classifier(chosen(node), ["a", "b"], 8)
    assert told == [weights == "imagenet"]


@pytest.mark.parametrize(
    ("change", "size", "message"),
    [
        ({"pool": "gap"}, 16, "student.pool=gap is unknown"),
        ({"weights": "nowhere.pth"}, 16, "student.weights=nowhere.pth: no such file"),
        (
            {"weights": "imagenet"},
            16,
            "there are no ImageNet weights of torchvision for resnet8: give student.weights=",
        ),
        ({"_target_": "lshfm.models.backbones.torchvision_classifier", "arch": "vgg16_bn"}, 8, "dataset.size=8 is too"),
    ],
)
def test_messages_name_the_keys_of_the_group(change: dict[str, str], size: int, message: str) -> None:
    node = {"_target_": "lshfm.models.cifar.cifar_classifier", "arch": "resnet8", "weights": "none"} | change
    with pytest.raises(InputError) as caught:
        networks.build_classifier(chosen(node), ["a"], size, at="student")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("size", "ranks", "typed", "fits"),
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
    monkeypatch: pytest.MonkeyPatch, settings: Train, size: int, ranks: int, typed: dict[str, Any], fits: bool
) -> None:
    monkeypatch.setattr(group, "_places", [Place(0, ranks, 0, ranks)])
    network = cifar_classifier("resnet8", 2)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    settings = changed(settings, {"dataset.size": size} | typed)
    with nullcontext() if fits else pytest.raises(InputError, match=r"too few for BatchNorm here .*raise batch_size"):
        networks.check_batch_norm(network, settings)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_a_detectors_batch_norm_is_that_of_its_backbone(settings: Train) -> None:
    """One image is enough where a map has several positions; in training a detector takes boxes beside it."""
    network = detector("fasterrcnn_mobilenet_v2_fpn", 3, norm="batch", width=0.25, fpn_channels=8)
    networks.check_batch_norm(network, changed(settings, {"batch_size": 1, "dataset.size": 64}))
    with pytest.raises(InputError, match="raise batch_size"):
        networks.check_batch_norm(network, changed(settings, {"batch_size": 1, "dataset.size": 32}))


@pytest.mark.parametrize("channels_last", [False, True])
def test_memory_order(settings: Train, channels_last: bool) -> None:
    network = networks.place(cifar_classifier("resnet8", 2), CPU, channels_last=channels_last)
    weight = network.backbone.layer1[0].conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last) is channels_last
    images = next(opened(changed(settings, {"channels_last": channels_last})).batches.epoch(0)).images
    assert images.is_contiguous(memory_format=torch.channels_last) is channels_last


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"head_lr": 3.0}, "Broken has no layer called 'classifier'"),
        ({"freeze_epochs": 1}, "Broken has no layer called 'classifier'"),
        ({"freeze": ["bn_stats"]}, "freeze=bn_stats: the network has no BatchNorm layers"),
        ({"head_lr": 1.0}, None),
    ],
)
def test_parts_that_a_network_lacks_are_named_before_its_data_is_opened(
    settings: Train, keys: dict[str, Any], message: str | None
) -> None:
    broken = Broken(2, "none")
    with pytest.raises(InputError, match=message) if message else nullcontext():
        networks.check_parts(broken, changed(settings, keys))
