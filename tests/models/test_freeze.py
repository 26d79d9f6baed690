"""What is frozen stays, what is not learns."""

import pytest
import torch
from torch import Tensor, nn

from lshfm.errors import InputError
from lshfm.models.cifar import cifar_classifier
from lshfm.models.classifier import Classifier
from lshfm.models.freeze import FREEZE, apply_freeze, heads, hold_backbone, hold_statistics, set_train_mode


def after_one_step(*frozen: str) -> tuple[Classifier, set[str]]:
    """A small network after a training step, and the names of the tensors that changed."""
    torch.manual_seed(0)
    model = cifar_classifier("resnet8", 3, projection=5)
    apply_freeze(model, frozen)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    set_train_mode(model, frozen)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    _, logits = model(torch.randn(4, 3, 16, 16))
    logits.square().sum().backward()
    optimizer.step()
    return model, {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}


def kinds(names: set[str]) -> set[str]:
    """Which kinds of tensors are among them: statistics, affine, projection, classifier, convolution."""

    def kind(name: str) -> str:
        if "running" in name or "num_batches" in name:
            return "statistics"
        if ".bn" in name or "downsample.1" in name:
            return "affine"
        return name.split(".")[0] if not name.startswith("backbone") else "convolution"

    return {kind(name) for name in names}


EVERYTHING = {"statistics", "affine", "projection", "classifier", "convolution"}


@pytest.mark.parametrize(
    ("frozen", "stays"),
    [
        ((), set()),
        (("bn_stats",), {"statistics"}),
        (("bn_affine",), {"affine"}),
        (("bn_stats", "bn_affine"), {"statistics", "affine"}),
        (("backbone",), EVERYTHING - {"classifier", "statistics"}),
        (("bn_stats", "backbone"), EVERYTHING - {"classifier"}),
    ],
)
def test_what_changes_in_a_step(frozen: tuple[str, ...], stays: set[str]) -> None:
    model, changed = after_one_step(*frozen)
    assert kinds(changed) == EVERYTHING - stays
    assert model.training


def test_train_mode_is_whole_without_frozen_statistics() -> None:
    model = cifar_classifier("resnet8", 3).eval()
    set_train_mode(model, ["bn_affine"])
    assert all(module.training for module in model.modules())


def test_frozen_statistics_normalise_as_in_evaluation() -> None:
    model = cifar_classifier("resnet8", 3)
    images = torch.randn(2, 3, 16, 16)
    set_train_mode(model, ["bn_stats"])
    logits = model(images)[1]
    assert torch.equal(logits, model.eval()(images)[1])


class Own(nn.Module):
    """A user's network without BatchNorm and without `classifier`."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(3, 2)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        feature = images.mean((2, 3))
        return feature, self.last(feature)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bn_stats", "no BatchNorm layers"),
        ("bn_affine", "no BatchNorm layers with weight and bias"),
        ("backbone", "Own has no layer called 'classifier'"),
    ],
)
def test_a_part_that_is_not_there_is_an_error(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        apply_freeze(Own(), [name])


def test_users_networks_freeze_too() -> None:
    model = Own()
    model.extra = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    model.classifier = model.last
    apply_freeze(model, list(FREEZE))
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {"last.weight", "last.bias"}


def test_unknown_name_freezes_nothing() -> None:
    model = cifar_classifier("resnet8", 3)
    with pytest.raises(InputError, match=r"freeze=bn_stat is unknown \(did you mean 'bn_stats.*; choices: "):
        apply_freeze(model, ["backbone", "bn_stat"])
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_what_is_behind_the_backbone() -> None:
    model = cifar_classifier("resnet8", 3, projection=5)
    assert heads(model) == [model.projection, model.classifier]
    plain = cifar_classifier("resnet8", 3)
    assert heads(plain) == [plain.classifier]
    with pytest.raises(InputError, match="Own has no layer called 'classifier': give it that attribute"):
        heads(Own())


def test_a_held_backbone_neither_learns_nor_adapts() -> None:
    model = cifar_classifier("resnet8", 3, projection=5)
    apply_freeze(model, ["bn_affine"])
    behind = {id(parameter) for head in heads(model) for parameter in head.parameters()}
    learning = [p for p in model.parameters() if p.requires_grad]
    held = hold_backbone(model)
    assert {id(p) for p in held} == {id(p) for p in learning} - behind
    assert {id(p) for p in model.parameters() if p.requires_grad} == behind
    model.train()
    hold_statistics(model)
    kinds = {type(module): module.training for module in model.modules()}
    assert (kinds[nn.BatchNorm2d], kinds[nn.Conv2d], model.training) == (False, True, True)


def test_batch_norm_behind_the_backbone_still_adapts() -> None:
    model = cifar_classifier("resnet8", 3)
    model.classifier = nn.Sequential(nn.BatchNorm1d(64), nn.Linear(64, 3))  # type: ignore[assignment]
    hold_backbone(model)
    model.train()
    hold_statistics(model)
    assert model.classifier[0].training
    assert all(parameter.requires_grad for parameter in model.classifier.parameters())
