"""Weighted losses by name."""

import pytest
import torch
from torch import Tensor, nn

from lshfm.objectives.terms import Term, Terms, add_up

STUDENT = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
TEACHER = torch.tensor([[1.0, 0.0], [0.0, 4.0]])
L2, L1 = (0 + 4 + 9 + 0) / 4, (0 + 2 + 3 + 0) / 4


class Product(nn.Module):
    """What autocast would compute in bf16, with a buffer as the hash functions have."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weights", torch.tensor([[1.0, 1e-3]]), persistent=False)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        return ((student - teacher) @ self.weights.T).sum()


def test_each_loss_has_its_weight_and_its_name() -> None:
    losses = Terms([Term("l2", 2.0, nn.MSELoss()), Term("l1", 0.5, nn.L1Loss())])(STUDENT, TEACHER)
    assert {name: loss.item() for name, loss in losses.items()} == {"l2": 2 * L2, "l1": L1 / 2}
    assert list(losses) == ["l2", "l1"]


def test_equal_names_add_up() -> None:
    terms = Terms([Term("kd", 2.0, nn.MSELoss()), Term("other", 1.0, nn.L1Loss()), Term("kd", 3.0, nn.L1Loss())])
    losses = terms(STUDENT, TEACHER)
    assert {name: loss.item() for name, loss in losses.items()} == {"kd": 2 * L2 + 3 * L1, "other": L1}
    assert list(losses) == ["kd", "other"]


def test_no_terms_give_no_losses_whatever_the_shapes() -> None:
    assert Terms([])(STUDENT, torch.zeros(2, 5)) == {}
    assert add_up([]) == {}


def test_the_weight_scales_the_gradient() -> None:
    student = STUDENT.clone().requires_grad_()
    Terms([Term("l2", 2.0, nn.MSELoss())])(student, TEACHER)["l2"].backward()
    assert torch.equal(student.grad, 2 * 2 * (STUDENT - TEACHER) / 4)


def test_weight_zero_leaves_a_loss_of_zero_without_gradient() -> None:
    student = STUDENT.clone().requires_grad_()
    loss = Terms([Term("l2", 0.0, nn.MSELoss())])(student, TEACHER)["l2"]
    loss.backward()
    assert loss.item() == 0
    assert not student.grad.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fp32_even_inside_autocast(dtype: torch.dtype) -> None:
    terms = Terms([Term("p", 1.0, Product())])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = terms(STUDENT.to(dtype), TEACHER.to(dtype))["p"]
    assert loss.dtype == torch.float32
    # In bf16 the 0.001 would be 0.00099945 and 3.002 would be 3.
    assert loss.item() == pytest.approx(3.002, abs=1e-6)


def test_the_losses_buffers_move_along_and_are_not_saved() -> None:
    terms = Terms([Term("p", 1.0, Product())]).to("meta")
    assert [buffer.device.type for buffer in terms.buffers()] == ["meta"]
    assert terms.state_dict() == {}
