"""Networks for small images in the layout of RepDistiller: its names, and back by lshfm and by a state dict."""

import json
from pathlib import Path
from typing import Any

import torch

import lshfm
from lshfm.models.cifar import cifar_classifier
from lshfm.models.classifier import Classifier
from lshfm.models.weights import load_weights
from lshfm.shipping.description import Description
from lshfm.shipping.formats import make_published, read_published
from lshfm.shipping.names import other_names, why_not
from tests.shipping.test_export import DESCRIBED

HEADS = {
    "resnet8": "fc", "wrn_16_1": "fc", "vgg8": "classifier", "ShuffleV1": "linear",
    "cifar_mobilenet_v2": "classifier.0",
}  # fmt: skip


def described(arch: str, **values: Any) -> Description:
    network = {"option": arch, "values": {"_target_": "lshfm.models.cifar.cifar_classifier", "arch": arch} | values}
    return Description(**DESCRIBED | {"title": arch, "network": network, "task": "singlelabel", "activation": "softmax",
                                      "score": 75.5, "size": 32})  # fmt: skip


def drawn(arch: str, **settings: Any) -> Classifier:
    torch.manual_seed(1)
    model = cifar_classifier(arch, 2, **settings).eval()
    for name, tensor in model.state_dict().items():
        if "running" in name:
            tensor.uniform_(0.5, 1.5)
    return model


def test_classifiers_are_called_as_published() -> None:
    for arch, head in HEADS.items():
        names = other_names("published", cifar_classifier(arch, 2))
        assert {names.pop(f"classifier.{kind}") for kind in ("weight", "bias")} == {f"{head}.weight", f"{head}.bias"}
        assert all(own == f"backbone.{theirs}" for own, theirs in names.items())


def test_there_and_back(tmp_path: Path) -> None:
    arch = "resnet8"
    model, told = drawn(arch), described(arch)
    assert why_not("published", model) is None
    path = tmp_path / "net.pth"
    make_published(model, told)(path, told)
    content = torch.load(path, weights_only=True)
    assert {name: content[name] for name in ("epoch", "best_acc")} == {"epoch": 0, "best_acc": 75.5}
    assert json.loads(content["lshfm"])["network"]["option"] == arch
    for back in (read_published(path, model, told), lshfm.load(path, device="cpu").model):
        assert all(torch.equal(tensor, back.state_dict()[name]) for name, tensor in model.state_dict().items())
    fresh = cifar_classifier(arch, 2)  # as a network of a run takes weights
    loaded = load_weights(fresh, path)
    assert (loaded.dropped, loaded.missing) == ([], [])


def test_a_projection_goes_along_and_another_pooling_does_not(tmp_path: Path) -> None:
    model, told = drawn("resnet8", projection=6), described("resnet8", projection=6)
    path = tmp_path / "net.pth"
    make_published(model, told)(path, told)
    state = torch.load(path, weights_only=True)["model"]
    assert (state["feat_fc.weight"].shape, state["fc.weight"].shape) == ((6, 65 - 1), (2, 6))
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(read_published(path, model, told)(images)[1], model(images)[1])
    assert why_not("published", drawn("resnet8", pool="GMP")) == (
        "the published resnet8 pools by the mean alone, this one by GMP"
    )
