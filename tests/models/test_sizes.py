"""Image sizes a network can and cannot take."""

import pytest
import torch
from torch import Tensor, nn

from lshfm.errors import InputError
from lshfm.models.backbones import torchvision_classifier
from lshfm.models.cifar import cifar_classifier
from lshfm.models.sizes import check_size


def test_vgg_needs_32_pixels() -> None:
    model = torchvision_classifier("vgg16_bn", 3)
    check_size(model, 32)
    check_size(model, 448)
    with pytest.raises(InputError, match=r"^size=31 is too small for vgg16_bn: .* smallest .* is 32"):
        check_size(model, 31)


def test_nothing_of_the_network_changes() -> None:
    model = cifar_classifier("resnet8", 3).train()
    model.backbone.bn1.eval()
    modes = {name: module.training for name, module in model.named_modules()}
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    check_size(model, 32)
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


class Choosy(nn.Module):
    """Reads values, which shapes alone cannot give, and takes one size."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        if images.sum().item() != 0 or images.shape[-1] != 24:
            raise ValueError("only 24 pixels")
        return images.mean((2, 3)) * self.scale, images.mean((2, 3))


def test_values_may_be_read() -> None:
    check_size(Choosy(), 24)


def test_one_size_only() -> None:
    with pytest.raises(InputError, match=r"^size=48 does not fit Choosy: .* is 24"):
        check_size(Choosy(), 48)


class Broken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(7, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images.mean((2, 3)))


def test_no_size_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lshfm.models.sizes.LARGEST_TRIED", 40)
    with pytest.raises(InputError, match=r"Broken takes no size up to 40; with size=32: .*mat1 and mat2"):
        check_size(Broken(), 32)
