"""The published networks for small images: sizes, names of their weights, and outputs, computed again from these."""

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lshfm.errors import InputError
from lshfm.models.backbones import torchvision_classifier
from lshfm.models.cifar import CIFAR, cifar_classifier
from lshfm.models.classifier import Classifier
from lshfm.models.weights import load_weights, published_network

State = dict[str, Tensor]
# With 100 classes: width of the feature, parameters.
PUBLISHED = {
    "resnet8": (64, 83_892), "resnet14": (64, 181_108), "resnet20": (64, 278_324), "resnet32": (64, 472_756),
    "resnet44": (64, 667_188), "resnet56": (64, 861_620), "resnet110": (64, 1_736_564),
    "resnet8x4": (256, 1_233_540), "resnet32x4": (256, 7_433_860), "cifar_resnet50": (2048, 23_705_252),
    "ShuffleV1": (960, 949_258), "ShuffleV2": (1024, 1_355_528), "cifar_mobilenet_v2": (1280, 812_836),
    "wrn_16_1": (64, 180_916), "wrn_16_2": (128, 703_284), "wrn_40_1": (64, 569_780), "wrn_40_2": (128, 2_255_156),
    "vgg8": (512, 3_965_028), "vgg11": (512, 9_277_284), "vgg13": (512, 9_462_180), "vgg16": (512, 14_774_436),
    "vgg19": (512, 20_086_692),
}  # fmt: skip
PROJECTED = [
    ("wrn_40_1", 128, 584_500), ("vgg8", 2048, 5_169_252), ("cifar_mobilenet_v2", 512, 1_391_908),
    ("ShuffleV1", 256, 1_124_874), ("ShuffleV2", 256, 1_541_128),
]  # fmt: skip
HEADS = {"cifar_resnet50": "linear", "ShuffleV1": "linear", "ShuffleV2": "linear", "cifar_mobilenet_v2": "classifier"}
BN = r"(weight|bias|running_mean|running_var|num_batches_tracked)"
KEYS = {  # of published checkpoints, heads aside
    "resnet": rf"conv1\.weight|bn1\.{BN}|layer[123]\.\d+\.(conv[12]\.weight|bn[12]\.{BN})"
    rf"|layer[123]\.0\.downsample\.(0\.weight|1\.{BN})",
    "cifar_resnet50": rf"conv1\.weight|bn1\.{BN}|layer[1234]\.\d+\.(conv[123]\.weight|bn[123]\.{BN})"
    rf"|layer[1234]\.0\.shortcut\.(0\.weight|1\.{BN})",
    "wrn": rf"conv1\.weight|bn1\.{BN}|block[123]\.layer\.\d+\.(conv[12]\.weight|bn[12]\.{BN})"
    r"|block[123]\.layer\.0\.convShortcut\.weight",
    "vgg": rf"block[0-4]\.(0|3|6|9)\.(weight|bias)|block[0-4]\.(1|4|7|10)\.{BN}",
    "cifar_mobilenet_v2": rf"conv[12]\.(0\.weight|1\.{BN})|blocks\.[0-6]\.\d\.conv\.([036]\.weight|[147]\.{BN})",
    "ShuffleV1": rf"conv1\.weight|bn1\.{BN}|layer[123]\.\d\.(conv[123]\.weight|bn[123]\.{BN})",
    "ShuffleV2": rf"conv[12]\.weight|bn[12]\.{BN}|layer[123]\.0\.(conv[1-5]\.weight|bn[1-5]\.{BN})"
    rf"|layer[123]\.[1-7]\.(conv[123]\.weight|bn[123]\.{BN})",
}


def family(arch: str) -> str:
    return next(name for name in sorted(KEYS, key=len, reverse=True) if arch.startswith(name))


def drawn(arch: str, classes: int = 7, **settings: Any) -> Classifier:
    """The network in float64 and eval mode, with weights and statistics that differ everywhere."""
    torch.manual_seed(1)
    model = cifar_classifier(arch, classes, **settings).double().eval()
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif name.endswith("running_mean"):
            tensor.normal_(std=0.1)
    return model


def published_state(model: Classifier) -> State:
    """The weights as the published code calls them."""
    head = HEADS.get(model.arch, "classifier" if model.arch.startswith("vgg") else "fc")
    heads = {"projection": "feat_fc", "classifier": head, "backbone": ""}
    named = {}
    for name, tensor in model.state_dict().items():
        first, _, rest = name.partition(".")
        named[f"{heads[first]}.{rest}".lstrip(".")] = tensor
    return named


class Reference:
    """The published definitions once more, as functions of the weights by name."""

    def __init__(self, state: State, arch: str) -> None:
        self.state, self.arch = state, arch

    def conv(self, x: Tensor, name: str, stride: int = 1, groups: int = 1) -> Tensor:
        weight = self.state[f"{name}.weight"]
        return F.conv2d(x, weight, self.state.get(f"{name}.bias"), stride, weight.shape[-1] // 2, 1, groups)

    def bn(self, x: Tensor, name: str) -> Tensor:
        mean, var, scale, shift = (
            self.state[f"{name}.{key}"].view(-1, 1, 1) for key in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * scale + shift

    def has(self, prefix: str) -> bool:
        return any(name.startswith(f"{prefix}.") for name in self.state)

    def units(self, stage: str) -> int:
        return len({n.removeprefix(f"{stage}.").split(".")[0] for n in self.state if n.startswith(f"{stage}.")})

    def resnet(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x, "conv1"), "bn1").relu()
        for stage in (1, 2, 3):
            for i in range(self.units(f"layer{stage}")):
                at, stride = f"layer{stage}.{i}", 2 if stage > 1 and i == 0 else 1
                y = self.bn(self.conv(x, f"{at}.conv1", stride), f"{at}.bn1").relu()
                y = self.bn(self.conv(y, f"{at}.conv2"), f"{at}.bn2")
                if self.has(f"{at}.downsample"):
                    x = self.bn(self.conv(x, f"{at}.downsample.0", stride), f"{at}.downsample.1")
                x = (x + y).relu()
        return x

    def cifar_resnet50(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x, "conv1"), "bn1").relu()
        for stage in (1, 2, 3, 4):
            for i in range((3, 4, 6, 3)[stage - 1]):
                at, stride = f"layer{stage}.{i}", 2 if stage > 1 and i == 0 else 1
                y = self.bn(self.conv(x, f"{at}.conv1"), f"{at}.bn1").relu()
                y = self.bn(self.conv(y, f"{at}.conv2", stride), f"{at}.bn2").relu()
                y = self.bn(self.conv(y, f"{at}.conv3"), f"{at}.bn3")
                if i == 0:
                    x = self.bn(self.conv(x, f"{at}.shortcut.0", stride), f"{at}.shortcut.1")
                x = (x + y).relu()
        return x

    def wrn(self, x: Tensor) -> Tensor:
        x = self.conv(x, "conv1")
        for stage in (1, 2, 3):
            for i in range(self.units(f"block{stage}.layer")):
                at, stride = f"block{stage}.layer.{i}", 2 if stage > 1 and i == 0 else 1
                active = self.bn(x, f"{at}.bn1").relu()
                y = self.bn(self.conv(active, f"{at}.conv1", stride), f"{at}.bn2").relu()
                shared = self.has(f"{at}.convShortcut")
                x = (self.conv(active, f"{at}.convShortcut", stride) if shared else x) + self.conv(y, f"{at}.conv2")
        return self.bn(x, "bn1").relu()

    def vgg(self, x: Tensor) -> Tensor:
        for block in range(5):
            for j in range(self.units(f"block{block}") // 2):
                x = self.bn(self.conv(x, f"block{block}.{3 * j}"), f"block{block}.{3 * j + 1}").relu()
            if block < 3:
                x = F.max_pool2d(x, 2, 2)
        return x

    def cifar_mobilenet_v2(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x, "conv1.0", 2), "conv1.1").relu()
        for block, (repeats, first) in enumerate(zip((1, 2, 3, 4, 3, 3, 1), (1, 1, 2, 2, 1, 2, 1), strict=True)):
            for i in range(repeats):
                at, stride = f"blocks.{block}.{i}.conv", first if i == 0 else 1
                y = self.bn(self.conv(x, f"{at}.0"), f"{at}.1").relu()
                y = self.bn(self.conv(y, f"{at}.3", stride, groups=y.shape[1]), f"{at}.4").relu()
                y = self.bn(self.conv(y, f"{at}.6"), f"{at}.7")
                x = x + y if stride == 1 and x.shape == y.shape else y
        return self.bn(self.conv(x, "conv2.0"), "conv2.1").relu()

    def shuffled(self, x: Tensor, groups: int) -> Tensor:
        """Channel c of g groups goes where (c mod per group, group) says: written out one by one."""
        per_group = x.shape[1] // groups
        return torch.stack([x[:, g * per_group + c] for c in range(per_group) for g in range(groups)], dim=1)

    def shufflev1(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x, "conv1"), "bn1").relu()
        for stage, units in ((1, 4), (2, 8), (3, 4)):
            for i in range(units):
                at, groups = f"layer{stage}.{i}", 1 if (stage, i) == (1, 0) else 3
                y = self.bn(self.conv(x, f"{at}.conv1", groups=groups), f"{at}.bn1").relu()
                y = self.shuffled(y, groups)
                y = self.bn(self.conv(y, f"{at}.conv2", 2 if i == 0 else 1, groups=y.shape[1]), f"{at}.bn2").relu()
                y = self.bn(self.conv(y, f"{at}.conv3", groups=3), f"{at}.bn3")
                pooled = F.unfold(x, 3, padding=1, stride=2).view(len(x), x.shape[1], 9, -1).sum(2) / 9 if i == 0 else x
                x = (torch.cat([y, pooled.view(len(x), x.shape[1], *y.shape[2:])], 1) if i == 0 else x + y).relu()
        return x

    def shufflev2(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x, "conv1"), "bn1").relu()
        for stage, units in ((1, 3), (2, 7), (3, 3)):
            at, width = f"layer{stage}.0", x.shape[1]
            left = self.bn(self.conv(x, f"{at}.conv1", 2, groups=width), f"{at}.bn1")
            left = self.bn(self.conv(left, f"{at}.conv2"), f"{at}.bn2").relu()
            right = self.bn(self.conv(x, f"{at}.conv3"), f"{at}.bn3").relu()
            right = self.bn(self.conv(right, f"{at}.conv4", 2, groups=right.shape[1]), f"{at}.bn4")
            right = self.bn(self.conv(right, f"{at}.conv5"), f"{at}.bn5").relu()
            x = self.shuffled(torch.cat([left, right], 1), 2)
            for i in range(1, units + 1):
                at, half = f"layer{stage}.{i}", x.shape[1] // 2
                y = self.bn(self.conv(x[:, half:], f"{at}.conv1"), f"{at}.bn1").relu()
                y = self.bn(self.conv(y, f"{at}.conv2", groups=half), f"{at}.bn2")
                y = self.bn(self.conv(y, f"{at}.conv3"), f"{at}.bn3").relu()
                x = self.shuffled(torch.cat([x[:, :half], y], 1), 2)
        return self.bn(self.conv(x, "conv2"), "bn2").relu()

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        run: Callable[[Tensor], Tensor] = getattr(self, family(self.arch).lower())
        feature = run(images).mean((2, 3))
        if self.has("feat_fc"):
            feature = feature @ self.state["feat_fc.weight"].T + self.state["feat_fc.bias"]
        head = next(name for name in ("fc", "linear", "classifier") if self.has(name))
        return feature, feature @ self.state[f"{head}.weight"].T + self.state[f"{head}.bias"]


def on_meta(arch: str, classes: int, **settings: Any) -> Classifier:
    with torch.device("meta"):
        return cifar_classifier(arch, classes, **settings)


def size(model: Classifier) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_the_zoo_is_the_published_one() -> None:
    assert PUBLISHED.keys() == CIFAR.keys()
    models = {arch: on_meta(arch, 100) for arch in CIFAR}
    assert {arch: (model.num_features, size(model)) for arch, model in models.items()} == PUBLISHED
    assert [size(on_meta(arch, 100, projection=width)) for arch, width, _ in PROJECTED] == [n for *_, n in PROJECTED]


@pytest.mark.parametrize("arch", CIFAR)
def test_weights_are_called_as_published(arch: str) -> None:
    names = on_meta(arch, 10).backbone.state_dict()
    assert [name for name in names if not re.fullmatch(KEYS[family(arch)], name)] == []


# In the fast tier one of each kind that differs in more than its depth; the deep ones cost most.
FAST = ("resnet14", "resnet8x4", "wrn_16_1", "wrn_16_2", "vgg8", "cifar_mobilenet_v2", "ShuffleV1", "ShuffleV2")


@pytest.mark.parametrize("arch", [pytest.param(a, marks=[] if a in FAST else pytest.mark.slow) for a in CIFAR])
def test_outputs_are_those_of_the_published_definition(arch: str) -> None:
    model = drawn(arch, projection=5)
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours, expected = model(images), Reference(published_state(model), arch)(images)
        raw = model.raw_feature(images)
    for mine, theirs in zip(ours, expected, strict=True):
        assert (mine - theirs).abs().max() <= 1e-10 * max(1.0, float(theirs.abs().max()))
        assert mine.std() > 1e-4  # else anything would agree
    assert (raw >= 0).all()


@pytest.mark.parametrize("arch", ["resnet8", "wrn_16_2", "vgg8", "cifar_mobilenet_v2", "ShuffleV2"])
def test_maps_come_with_the_outputs_of_the_same_pass(arch: str) -> None:
    model, images = drawn(arch), torch.randn(2, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        maps, outputs = model.maps(images)
        assert all(map(torch.equal, outputs, model(images)))
    assert len(maps) == (4 if arch in ("vgg8", "cifar_mobilenet_v2") else 3)
    assert all(m.shape[0] == 2 and m.ndim == 4 for m in maps)
    sides = [m.shape[-1] for m in maps]
    assert sides == sorted(sides, reverse=True)


def test_a_network_without_stages_says_so() -> None:
    with torch.device("meta"):
        model = torchvision_classifier("vgg16_bn", 3)
    with pytest.raises(InputError, match="vgg16_bn names no stages"):
        model.maps(torch.zeros(1, 3, 64, 64))


def test_heads_start_as_published() -> None:
    torch.manual_seed(0)
    for arch in ("vgg8", "cifar_mobilenet_v2"):
        for head in cifar_classifier(arch, 100, projection=300).heads.values():
            assert head.weight.std().item() == pytest.approx(0.01, rel=0.03)
            assert not head.bias.any()
    for arch, has_bias in (("wrn_16_1", False), ("ShuffleV1", True), ("resnet8", True)):
        for head in cifar_classifier(arch, 100, projection=300).heads.values():
            assert head.weight.abs().max().item() <= head.in_features**-0.5
            assert bool(head.bias.any()) is has_bias
    first = cifar_classifier("ShuffleV2", 10).backbone.conv1.weight  # PyTorch's default: uniform, bound by fan-in
    assert first.abs().max().item() <= 3**-0.5


def written(folder: Path, layout: str, state: State) -> Path:
    """A file as RepDistiller or the published code writes it."""
    others = {"epoch": 240, "best_acc": torch.tensor([75.6]), "optimizer": {"state": {}, "param_groups": []}}
    hashes = {"criterion_kd": {"LSH_weight.weight": torch.zeros(4, 3), "LSH_weight.bias": torch.zeros(4)}}
    content: dict[str, Any] = {
        "RepDistiller": {"epoch": 240, "model": state, "best_acc": torch.tensor([75.6])},
        "best": {"model": state, **others},
        "last": {"opt": argparse.Namespace(model="x", lr=0.05), "model": state, "optimizer": {}},
        "student": {"epoch": 240, "model": state, **hashes, "accuracy": torch.tensor([70.0])},
        "imagenet": {"epoch": "avg10", "arch": "ResNet18", "best_acc1": torch.tensor(70.0), "optimizer": {},
                     "state_dict": {f"module.{name}": tensor for name, tensor in state.items()}},
    }[layout]  # fmt: skip
    path = folder / f"{layout}.pth"
    torch.save(content, path)
    return path


@pytest.mark.parametrize("layout", ["RepDistiller", "best", "last", "student"])
@pytest.mark.parametrize("arch", ["resnet8", "wrn_16_1", "vgg8", "cifar_mobilenet_v2", "ShuffleV1"])
def test_published_checkpoints_load(arch: str, layout: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = cifar_classifier(arch, 5, projection=6)
    state = published_state(model)
    if layout == "RepDistiller" and arch == "cifar_mobilenet_v2":  # which wraps the layer
        state = {re.sub("^classifier", "classifier.0", name): tensor for name, tensor in state.items()}
    other = cifar_classifier(arch, 5, projection=6)
    loaded = load_weights(other, written(tmp_path, layout, state))
    assert (loaded.dropped, loaded.missing) == ([], [])
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_published_imagenet_checkpoints_name_their_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = torchvision_classifier("resnet18", 5)
    path = written(tmp_path, "imagenet", published_state(model))
    assert published_network(path) == ("resnet18", {"pool": "GAP", "projection": None})
    other = torchvision_classifier("resnet18", 5)
    assert load_weights(other, path).kind == "published"
    assert torch.equal(other.classifier.weight, model.classifier.weight)
    with pytest.raises(InputError, match="holds resnet18"):
        load_weights(torchvision_classifier("resnet34", 5), path)


def test_weights_of_another_small_network_are_refused_by_name(tmp_path: Path) -> None:
    path = written(tmp_path, "best", published_state(cifar_classifier("wrn_16_1", 5)))
    with pytest.raises(InputError, match="not weights of resnet20 but of wrn_16_1"):
        load_weights(cifar_classifier("resnet20", 5), path)
