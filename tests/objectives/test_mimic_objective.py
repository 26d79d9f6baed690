"""Stage 2: labels, features and logits at once."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lshfm.datasets.loader import Batch
from lshfm.losses.classification import BCE
from lshfm.models.cifar import cifar_classifier
from lshfm.models.classifier import Classifier
from lshfm.objectives.mimic import Mimic
from lshfm.objectives.supervised import Supervised
from lshfm.objectives.teacher import Teacher
from lshfm.objectives.terms import Term, Terms

ONE_PIXEL = Batch(
    torch.arange(1), torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1), torch.tensor([[0, -1]], dtype=torch.int8), 0
)
LABELS = torch.tensor([[1, 0, -1], [-1, -1, 0]], dtype=torch.int8)
BATCH = Batch(torch.arange(2), torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)), LABELS, 0)
NONE = Terms([])


def linear(weight: list[list[float]], bias: list[float]) -> Classifier:
    """The colours of a one-pixel image, projected to (a, b); its logits are (a - b, b)."""
    model = Classifier("linear", nn.Identity(), 3, 2, projection=2)
    with torch.no_grad():
        model.projection.weight.copy_(torch.tensor(weight))
        model.projection.bias.copy_(torch.tensor(bias))
        model.classifier.weight.copy_(torch.tensor([[1.0, -1.0], [0.0, 1.0]]))
        model.classifier.bias.zero_()
    return model


def by_hand(gamma: float, features: str = "l2", logits: str = "kd") -> Mimic:
    student = linear([[1, 0, 0], [0, 1, 1]], [0.5, 0])  # (1, 2, 3) -> feature (1.5, 5), logits (-3.5, 5)
    teacher = linear([[0, 0, 1], [1, 0, 0]], [0, 0])  # (1, 2, 3) -> feature (3, 1), logits (2, 1)
    return Mimic(
        student,
        Teacher(teacher),
        label_loss=nn.L1Loss(),
        label_name="label",
        gamma=gamma,
        feature_terms=Terms([Term(features, 2.0, nn.MSELoss())]),
        logit_terms=Terms([Term(logits, 0.5, nn.MSELoss())]),
    )


LABEL = (abs(-3.5 - 1) + abs(5 - 0)) / 2  # a difficult label is a positive, -1 a negative
FEATURE = 2 * (1.5**2 + 4**2) / 2
LOGIT = 0.5 * (5.5**2 + 4**2) / 2


def network(*freeze: str, **settings: Any) -> Mimic:
    torch.manual_seed(0)
    model, other = (cifar_classifier("resnet8", 3, projection=5) for _ in range(2))
    defaults = {
        "label_loss": BCE(),
        "label_name": "bce",
        "gamma": 1.0,
        "feature_terms": Terms([Term("l2", 1.0, nn.MSELoss())]),
        "logit_terms": NONE,
    }
    return Mimic(model, Teacher(other), freeze=freeze, **(defaults | settings)).train()


def backward(losses: dict[str, Tensor]) -> None:
    torch.stack(list(losses.values())).sum().backward()


@pytest.mark.parametrize("gamma", [3.0, 0.0])
def test_losses_by_hand(gamma: float) -> None:
    losses = by_hand(gamma)(ONE_PIXEL)
    assert {n: x.item() for n, x in losses.items()} == {"label": gamma * LABEL, "l2": FEATURE, "kd": LOGIT}
    assert list(losses) == ["label", "l2", "kd"]


@pytest.mark.parametrize(
    ("features", "logits", "expected"),
    [
        ("kd", "kd", {"label": LABEL, "kd": FEATURE + LOGIT}),
        ("label", "kd", {"label": LABEL + FEATURE, "kd": LOGIT}),
        ("label", "label", {"label": LABEL + FEATURE + LOGIT}),
    ],
)
def test_equal_names_add_up(features: str, logits: str, expected: dict[str, float]) -> None:
    losses = by_hand(1.0, features, logits)(ONE_PIXEL)
    assert {name: loss.item() for name, loss in losses.items()} == expected


def test_gradients_by_hand() -> None:
    mimic = by_hand(3.0)
    backward(mimic(ONE_PIXEL))
    # Each loss is a mean of two, so d label = sign / 2, d l2 = 2 * (s - t), d kd = 0.5 * (s - t).
    logits = [3 * -0.5 + 0.5 * (-3.5 - 2), 3 * 0.5 + 0.5 * (5 - 1)]
    assert mimic.model.classifier.bias.grad.tolist() == logits
    feature = [2 * (1.5 - 3) + logits[0], 2 * (5 - 1) - logits[0] + logits[1]]
    assert mimic.model.projection.bias.grad.tolist() == feature


def test_gamma_zero_teaches_the_classifier_nothing() -> None:
    mimic = network(gamma=0.0)
    backward(mimic(BATCH))
    assert not mimic.model.classifier.weight.grad.any()
    assert mimic.model.projection.weight.grad.any()


def test_without_a_teachers_terms_it_is_learning_from_labels() -> None:
    mimic = network(feature_terms=NONE)
    torch.manual_seed(0)
    supervised = Supervised(cifar_classifier("resnet8", 3, projection=5), BCE(), "bce").train()
    backward(mimic(BATCH))
    backward(supervised(BATCH))
    pairs = zip(mimic.model.parameters(), supervised.model.parameters(), strict=True)
    assert all(torch.equal(mine.grad, theirs.grad) for mine, theirs in pairs)


def test_all_of_the_student_gets_gradients_and_nothing_of_the_teacher() -> None:
    mimic = network()
    backward(mimic(BATCH))
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in mimic.model.parameters())
    assert all(parameter.grad is None for parameter in mimic.teacher.parameters())


def test_each_network_runs_once() -> None:
    mimic, runs = network(), []
    mimic.model.register_forward_hook(lambda *_: runs.append("student"))
    mimic.teacher.network.register_forward_hook(lambda *_: runs.append("teacher"))
    mimic(BATCH)
    assert runs == ["student", "teacher"]


def test_the_teacher_stays_as_it_is() -> None:
    mimic = network()
    mimic.eval().train()
    assert all(module.training for module in mimic.model.modules())
    assert not any(module.training for module in mimic.teacher.modules())
    before = {name: tensor.clone() for name, tensor in mimic.teacher.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in mimic.parameters() if p.requires_grad], lr=0.1)
    backward(mimic(BATCH))
    optimizer.step()
    assert all(torch.equal(tensor, before[name]) for name, tensor in mimic.teacher.state_dict().items())


def test_frozen_statistics_stay() -> None:
    mimic = network("bn_stats")
    before = {name: buffer.clone() for name, buffer in mimic.model.named_buffers()}
    mimic(BATCH)
    assert all(torch.equal(buffer, before[name]) for name, buffer in mimic.model.named_buffers())


def test_bf16_is_for_the_networks_and_not_for_the_losses() -> None:
    mimic, inside = network(precision="bf16", logit_terms=Terms([Term("kd", 1.0, nn.MSELoss())])), []
    mimic.model.classifier.register_forward_hook(lambda _m, _i, output: inside.append(output.dtype))
    mimic.label_loss.register_forward_pre_hook(lambda _m, inputs: inside.extend(i.dtype for i in inputs))
    losses = mimic(BATCH)
    assert inside == [torch.bfloat16, torch.float32, torch.int8]
    assert {name: loss.dtype for name, loss in losses.items()} == dict.fromkeys(["bce", "l2", "kd"], torch.float32)
    assert all(loss.isfinite() for loss in losses.values())
