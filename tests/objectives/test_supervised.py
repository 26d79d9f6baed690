"""Label losses, and what does not learn."""

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from lshfm.datasets.loader import Batch
from lshfm.errors import InputError
from lshfm.losses.classification import ASL, BCE
from lshfm.models.cifar import cifar_classifier
from lshfm.objectives.supervised import Supervised

LABELS = torch.tensor([[1, 0, -1], [-1, -1, 0]], dtype=torch.int8)


class Fixed(nn.Module):
    """Gives logits that were set."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return images, self.logits


def batch(size: int = 8) -> Batch:
    generator = torch.Generator().manual_seed(0)
    return Batch(torch.arange(2), torch.randn(2, 3, size, size, generator=generator), LABELS, 0)


def network(*freeze: str, precision: str = "fp32") -> Supervised:
    torch.manual_seed(0)
    return Supervised(cifar_classifier("resnet8", 3), BCE(), "bce", freeze=freeze, precision=precision).train()


def test_a_difficult_label_counts_as_positive() -> None:
    logits = torch.tensor([[0.5, -1.0, 2.0], [1.0, -2.0, 0.25]])
    losses = Supervised(Fixed(logits), BCE(), "bce")(batch())
    targets = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert list(losses) == ["bce"]
    torch.testing.assert_close(losses["bce"], binary_cross_entropy_with_logits(logits, targets))


@pytest.mark.parametrize("loss", [BCE(), ASL()])
def test_the_loss_is_named_and_fp32(loss: nn.Module) -> None:
    (named,) = Supervised(Fixed(torch.zeros(2, 3)), loss, "mine")(batch()).items()
    assert (named[0], named[1].dtype, named[1].shape) == ("mine", torch.float32, ())


def test_bf16_is_for_the_network_and_not_for_the_loss() -> None:
    seen: list[torch.dtype] = []
    objective = network(precision="bf16")
    objective.model.classifier.register_forward_hook(lambda _m, _i, output: seen.append(output.dtype))
    objective.loss.register_forward_pre_hook(lambda _m, inputs: seen.extend(i.dtype for i in inputs))
    loss = objective(batch())["bce"]
    assert seen == [torch.bfloat16, torch.float32, torch.int8]
    assert loss.dtype == torch.float32
    loss.backward()
    assert all(p.grad.dtype == torch.float32 for p in objective.model.parameters())


def test_fp32_is_fp32_throughout() -> None:
    objective = network()
    dtypes = []
    objective.model.classifier.register_forward_hook(lambda _m, _i, output: dtypes.append(output.dtype))
    objective(batch())
    assert dtypes == [torch.float32]


def changed_by_a_step(objective: Supervised) -> set[str]:
    """Names of the tensors that differ after evaluating, switching back to training, and a step."""
    before = {name: tensor.clone() for name, tensor in objective.model.state_dict().items()}
    objective.eval()
    objective(batch())
    objective.train()
    optimizer = torch.optim.SGD([p for p in objective.parameters() if p.requires_grad], lr=0.1)
    objective(batch())["bce"].backward()
    optimizer.step()
    return {name for name, tensor in objective.model.state_dict().items() if not torch.equal(tensor, before[name])}


def is_statistic(name: str) -> bool:
    return "running" in name or "num_batches" in name


def is_affine(name: str) -> bool:
    return (".bn" in name or "downsample.1" in name) and not is_statistic(name)


def test_everything_learns_by_default() -> None:
    objective = network()
    assert changed_by_a_step(objective) == set(objective.model.state_dict())


def test_frozen_statistics_stay_through_a_switch_to_eval_and_back() -> None:
    objective = network("bn_stats")
    changed = changed_by_a_step(objective)
    assert changed == {name for name in objective.model.state_dict() if not is_statistic(name)}
    assert objective.training
    assert objective.model.training


def test_frozen_affine_stays() -> None:
    objective = network("bn_affine")
    assert changed_by_a_step(objective) == {n for n in objective.model.state_dict() if not is_affine(n)}


def test_only_the_classifier_learns() -> None:
    objective = network("backbone")
    objective(batch())["bce"].backward()
    with_gradient = {name for name, p in objective.model.named_parameters() if p.grad is not None}
    assert with_gradient == {"classifier.weight", "classifier.bias"}
    assert changed_by_a_step(network("backbone", "bn_stats")) == with_gradient


def test_evaluation_freezes_nothing_for_good() -> None:
    objective = network().eval()
    assert not any(module.training for module in objective.modules())
    assert all(module.training for module in objective.train().modules())


def test_an_unknown_part_is_refused() -> None:
    with pytest.raises(InputError, match="freeze"):
        network("bn_statistics")
