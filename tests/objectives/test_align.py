"""Stage 1: the projection alone learns."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from lshfm.datasets.loader import Batch
from lshfm.errors import InputError
from lshfm.models.backbones import torchvision_classifier
from lshfm.models.cifar import cifar_classifier
from lshfm.models.classifier import Classifier
from lshfm.objectives.align import Align
from lshfm.objectives.teacher import Teacher
from lshfm.objectives.terms import Term, Terms

BUILDERS = {
    "resnet8": lambda: cifar_classifier("resnet8", 3, projection=5),
    "mobilenet_v2": lambda: torchvision_classifier("mobilenet_v2", 3, projection=5),
}
L2 = Terms([Term("l2", 1.0, nn.MSELoss())])


def batches(count: int, size: int = 8) -> list[Batch]:
    """Their labels would break whoever reads them."""
    generator = torch.Generator().manual_seed(0)
    images = (torch.randn(4, 3, size, size, generator=generator) for _ in range(count))
    return [Batch(torch.arange(4), i, torch.empty(0), 0) for i in images]


def teacher() -> Teacher:
    torch.manual_seed(1)
    return Teacher(cifar_classifier("resnet8", 7, projection=5))


def objective(*freeze: str, precision: str = "fp32") -> Align:
    torch.manual_seed(0)
    return Align(BUILDERS["resnet8"](), teacher(), L2, freeze=freeze, precision=precision).train()


def sgd(parameters: list[nn.Parameter]) -> torch.optim.SGD:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=1e-4)


def learn(align: Align, data: list[Batch]) -> None:
    optimizer = sgd([p for p in align.parameters() if p.requires_grad])
    for batch in data:
        optimizer.zero_grad()
        align(batch)["l2"].backward()
        optimizer.step()


def changed(module: nn.Module, steps: Callable[[], None]) -> set[str]:
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    steps()
    return {name for name, tensor in module.state_dict().items() if not torch.equal(tensor, before[name])}


def statistics(model: nn.Module) -> set[str]:
    return {name for name, _ in model.named_buffers()}


def linear(weight: list[list[float]], bias: list[float]) -> Classifier:
    """The colours of a one-pixel image, projected."""
    model = Classifier("linear", nn.Identity(), 3, 1, projection=2)
    with torch.no_grad():
        model.projection.weight.copy_(torch.tensor(weight))
        model.projection.bias.copy_(torch.tensor(bias))
    return model


def test_losses_by_hand() -> None:
    student = linear([[1, 0, 0], [0, 1, 1]], [0.5, 0])  # (1, 2, 3) -> (1.5, 5)
    other = linear([[0, 0, 1], [1, 0, 0]], [0, 0])  # (1, 2, 3) -> (3, 1)
    terms = Terms([Term("l2", 2.0, nn.MSELoss()), Term("l1", 0.5, nn.L1Loss())])
    image = Batch(torch.arange(1), torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1), torch.empty(0), 0)
    losses = Align(student, Teacher(other), terms)(image)
    assert {n: x.item() for n, x in losses.items()} == {"l2": 2 * (1.5**2 + 4**2) / 2, "l1": 0.5 * (1.5 + 4) / 2}
    losses["l2"].backward()
    assert student.projection.bias.grad.tolist() == [2 * (1.5 - 3), 2 * (5 - 1)]


@pytest.mark.parametrize("arch", BUILDERS)
def test_bit_equal_to_gradients_through_the_whole_backbone(arch: str) -> None:
    data, frozen = batches(2, size=32), teacher()
    torch.manual_seed(0)
    model = BUILDERS[arch]()
    reference = copy.deepcopy(model).train()
    fresh = set(model.state_dict())
    moved = changed(model, lambda: learn(Align(model, frozen, L2).train(), data))
    assert moved == statistics(model) | {"projection.weight", "projection.bias"}
    optimizer = sgd(list(reference.projection.parameters()))
    for batch in data:
        optimizer.zero_grad()
        mse_loss(reference(batch.images)[0], frozen(batch)[0]).backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.any() for p in reference.backbone.parameters())
    assert {n for n in fresh if torch.equal(model.state_dict()[n], reference.state_dict()[n])} == fresh


def test_only_the_projection_gets_gradients() -> None:
    align = objective()
    align(batches(1)[0])["l2"].backward()
    assert {n for n, p in align.named_parameters() if p.grad is not None} == {
        "model.projection.weight",
        "model.projection.bias",
    }
    assert {n for n, p in align.named_parameters() if p.requires_grad} == {
        "model.projection.weight",
        "model.projection.bias",
    }


def test_the_backbone_keeps_nothing_for_a_backward_pass() -> None:
    align = objective()
    align.model.backbone.requires_grad_(True)
    assert not align.model.raw_feature(batches(1)[0].images).is_leaf
    raws: list[Tensor] = []
    align.model.projection.register_forward_pre_hook(lambda _m, inputs: raws.extend(inputs))
    align(batches(1)[0])
    assert [raw.requires_grad for raw in raws] == [False]


@pytest.mark.parametrize("freeze", [["bn_stats"], ["bn_stats", "bn_affine", "backbone"]])
def test_frozen_statistics_stay_through_a_switch_to_eval_and_back(freeze: list[str]) -> None:
    align = objective(*freeze)
    align.eval().train()
    assert changed(align.model, lambda: learn(align, batches(2))) == {"projection.weight", "projection.bias"}


def test_the_teacher_stays_as_it_is() -> None:
    align = objective()
    assert align.model.training
    assert not any(module.training for module in align.teacher.modules())
    assert changed(align.teacher, lambda: learn(align, batches(2))) == set()


def test_bf16_is_for_the_networks_and_not_for_the_loss() -> None:
    align = objective(precision="bf16")
    inside: list[torch.dtype] = []
    align.model.projection.register_forward_hook(lambda _m, _i, output: inside.append(output.dtype))
    loss = align(batches(1)[0])["l2"]
    loss.backward()
    assert inside == [torch.bfloat16]
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert align.model.projection.weight.grad.dtype == torch.float32


def test_without_a_projection_there_is_nothing_to_align() -> None:
    model = cifar_classifier("resnet8", 3)
    with pytest.raises(InputError, match=r"resnet8 has none, so there is nothing to align: projection=5 gives"):
        Align(model, teacher(), L2)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_projection_needs_its_raw_feature() -> None:
    model = nn.Module()
    model.projection = nn.Linear(3, 5)
    with pytest.raises(InputError, match=r"needs Module to have a method raw_feature\(images\)"):
        Align(model, teacher(), L2)
