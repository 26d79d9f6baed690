"""Pooling against numbers worked out by hand."""

import pytest
import torch

from lshfm.errors import InputError
from lshfm.models.pooling import POOLING, pooling

# One image, two channels, a 2 x 2 map.
MAP = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]], [[-4.0, 0.0], [0.0, 2.0]]]])


@pytest.mark.parametrize(("name", "expected"), [("GAP", [3.0, -0.5]), ("GMP", [6.0, 2.0]), ("GWP", [4.5, 0.75])])
def test_values(name: str, expected: list[float]) -> None:
    assert torch.equal(pooling(name)(MAP), torch.tensor([expected]))


def test_gap_is_torchvisions() -> None:
    features = torch.randn(3, 5, 7, 7)
    expected = torch.nn.AdaptiveAvgPool2d((1, 1))(features).flatten(1)
    assert torch.equal(pooling("GAP")(features), expected)


@pytest.mark.parametrize("name", POOLING)
def test_gradients_are_deterministic(name: str) -> None:
    features = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(pooling(name), features)


def test_unknown_pooling_names_the_choices() -> None:
    with pytest.raises(InputError, match=r"^pool=gap is unknown \(did you mean 'GAP'.*; choices: GAP, GMP, GWP"):
        pooling("gap")
