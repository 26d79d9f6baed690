"""The networks: shapes, sizes, equality with torchvision's, initial weights."""

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from lshfm.errors import InputError
from lshfm.models.backbones import TORCHVISION, torchvision_classifier
from lshfm.models.cifar import CIFAR, cifar_classifier
from lshfm.models.classifier import Classifier
from lshfm.runs.record import Results

WIDTHS = {
    "resnet18": 512,
    "resnet34": 512,
    "resnet50": 2048,
    "resnet101": 2048,
    "mobilenet_v2": 1280,
    "vgg16_bn": 512,
    "vgg19_bn": 512,
}
EVERY = [(torchvision_classifier, arch, WIDTHS[arch]) for arch in TORCHVISION] + [
    (cifar_classifier, arch, CIFAR[arch].width) for arch in CIFAR
]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network may be built from anything but code."""

    def refuse(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def on_meta(build: Callable[..., Any], *arguments: Any, **settings: Any) -> Any:
    """The network without storage: shapes only."""
    with torch.device("meta"):
        return build(*arguments, **settings)


@pytest.mark.parametrize(("build", "arch", "width"), EVERY)
def test_shapes(build: Callable[..., Classifier], arch: str, width: int) -> None:
    model = on_meta(build, arch, 20, pool="GMP", projection=96)
    raw = model.pool(model.backbone(torch.zeros(2, 3, 64, 64, device="meta")))
    assert raw.shape == (2, width)
    feature, logits = model(torch.zeros(2, 3, 64, 64, device="meta"))
    assert feature.shape == (2, 96) == (2, model.num_features)
    assert logits.shape == (2, 20)
    assert (model.raw_features, model.arch) == (width, arch)
    assert type(model.pool).__name__ == "GMP"


@pytest.mark.parametrize("arch", TORCHVISION)
def test_backbone_has_torchvisions_weights_by_name_and_shape(arch: str) -> None:
    theirs = on_meta(torchvision.models.get_model, arch, weights=None).state_dict()
    expected = {n: t.shape for n, t in theirs.items() if not n.startswith(("fc.", "classifier."))}
    ours = on_meta(torchvision_classifier, arch, 20).backbone.state_dict()
    assert {name: tensor.shape for name, tensor in ours.items()} == expected


@pytest.mark.parametrize(("arch", "head"), [("resnet18", "fc"), ("mobilenet_v2", "classifier.1")])
def test_logits_are_torchvisions(arch: str, head: str) -> None:
    torch.manual_seed(0)
    ours = torchvision_classifier(arch, 7).eval()
    theirs = torchvision.models.get_model(arch, weights=None, num_classes=7).eval()
    ours.backbone.load_state_dict(
        {n: t for n, t in theirs.state_dict().items() if not n.startswith(head[:10])}, strict=False
    )
    ours.classifier.load_state_dict(theirs.get_submodule(head).state_dict())
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        feature, logits = ours(images)
        assert torch.equal(logits, theirs(images))
        assert torch.equal(logits, ours.classifier(feature))


@pytest.mark.parametrize("arch", ["vgg16_bn", "vgg19_bn"])
def test_vgg_layers_are_torchvisions(arch: str) -> None:
    ours = on_meta(torchvision_classifier, arch, 20).backbone.features
    theirs = on_meta(torchvision.models.get_model, arch, weights=None).features
    assert str(ours) == str(theirs)


def test_cifar_map_is_a_quarter_of_the_image() -> None:
    backbone = on_meta(cifar_classifier, "resnet8x4", 10).backbone
    assert backbone(torch.zeros(1, 3, 32, 32, device="meta")).shape == (1, 256, 8, 8)


@pytest.mark.parametrize(
    ("build", "arch"),
    [(torchvision_classifier, a) for a in ("resnet18", "mobilenet_v2", "vgg16_bn")]
    + [(cifar_classifier, "resnet32x4")],
)
def test_convolutions_start_kaiming_normal_and_batch_norms_neutral(build: Callable[..., Classifier], arch: str) -> None:
    torch.manual_seed(0)
    for layer in build(arch, 20).backbone.modules():
        if isinstance(layer, nn.Conv2d):
            fan_out = layer.weight[:, 0].numel()
            if layer.weight.numel() > 20_000:
                assert layer.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.03)
            assert layer.bias is None or not layer.bias.any()
        if isinstance(layer, nn.BatchNorm2d):
            assert (layer.weight == 1).all()
            assert not layer.bias.any()


@pytest.mark.parametrize("arch", ["mobilenet_v2", "vgg16_bn"])
def test_linear_layers_start_small_behind_mobilenet_and_vgg(arch: str) -> None:
    torch.manual_seed(0)
    for head in torchvision_classifier(arch, 100, projection=400).heads.values():
        assert head.weight.std().item() == pytest.approx(0.01, rel=0.03)
        assert not head.bias.any()


@pytest.mark.parametrize(("build", "arch"), [(torchvision_classifier, "resnet18"), (cifar_classifier, "resnet8x4")])
def test_linear_layers_start_with_pytorchs_default_behind_resnets(build: Callable[..., Classifier], arch: str) -> None:
    torch.manual_seed(0)
    for head in build(arch, 100, projection=300).heads.values():
        bound = head.in_features**-0.5
        assert head.weight.abs().max().item() <= bound
        assert head.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.03)
        assert head.bias.any()


def test_only_mobilenet_has_dropout() -> None:
    rates = {arch: getattr(on_meta(torchvision_classifier, arch, 2).dropout, "p", 0) for arch in TORCHVISION}
    assert {arch: rate for arch, rate in rates.items() if rate} == {"mobilenet_v2": 0.2}


@pytest.mark.parametrize(
    ("build", "arch", "near"),
    [(torchvision_classifier, "resnet-34", "resnet34"), (cifar_classifier, "ResNet20", "resnet20")],
)
def test_unknown_network_names_the_nearest(build: Callable[..., Classifier], arch: str, near: str) -> None:
    with pytest.raises(InputError, match=rf"^arch={arch} is unknown \(did you mean .*{near}.*; choices: "):
        build(arch, 20)


@pytest.mark.parametrize("build", [torchvision_classifier, cifar_classifier])
def test_network_name_must_be_text(build: Callable[..., Classifier]) -> None:
    with pytest.raises(InputError, match=r"^arch=\['resnet18'\] is unknown"):
        build(["resnet18"], 20)


@pytest.mark.slow
def test_a_run_of_a_small_network_does_not_import_torchvision(tmp_path: Path) -> None:
    """Which takes as long as torch itself."""
    sizes = ["dataset.num_train=32", "dataset.num_eval=16", "dataset.size=16", "batch_size=16", "epochs=1", "gpus=[]"]
    words = ["train", "model=resnet20", *sizes, "workers=0", "dataset.cache=off"]
    code = f"""
import sys
from lshfm.cli import main
sys.argv = ["lshfm", *{words}]
main()
import lshfm.commands.mimic, lshfm.commands.eval
print(*{{"torchvision"}} & set(sys.modules), file=sys.stderr)
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300, check=False)
    assert (done.returncode, done.stderr.strip()) == (0, "")
    versions = Results.read(next(tmp_path.glob("outputs/train/*/results.json"))).hardware
    assert versions is not None
    assert versions["torchvision"]
