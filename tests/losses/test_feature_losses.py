"""L1 and L2 between features: hand-computed values and gradients, and properties."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lshfm.losses.features import L1, L2

FEATURE_S, FEATURE_T = [[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]], [[0.5, 1.0, 0.5], [-2.0, 2.0, 1.0]]
DIFFERENCES = [[0.5, -3.0, 0.0], [2.0, 1.0, -2.0]]
SEEDS = st.integers(0, 2**32)


def features(seed, count=2):
    return torch.randn(count, 4, 3, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("loss", "value", "gradient"),
    [
        (L1(), (0.5 + 3 + 0 + 2 + 1 + 2) / 6, [[1 / 6, -1 / 6, 0], [1 / 6, 1 / 6, -1 / 6]]),
        (L2(), (0.25 + 9 + 0 + 4 + 1 + 4) / 6, [[2 * d / 6 for d in row] for row in DIFFERENCES]),
    ],
)
def test_value_and_gradient_by_hand(loss, value, gradient):
    feature_s, feature_t = torch.tensor(FEATURE_S, requires_grad=True), torch.tensor(FEATURE_T)
    found = loss(feature_s, feature_t)
    found.backward()
    assert found.item() == pytest.approx(value, abs=1e-6)
    torch.testing.assert_close(feature_s.grad, torch.tensor(gradient), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("loss", "power"), [(L1(), 1), (L2(), 2)])
@given(seed=SEEDS, scale=st.floats(0.01, 100))
def test_properties(loss, power, seed, scale):
    feature_s, feature_t = features(seed)
    value = loss(feature_s, feature_t).item()
    assert value > 0
    assert loss(feature_s, feature_s).item() == 0
    assert loss(feature_t, feature_s).item() == value
    assert loss(scale * feature_s, scale * feature_t).item() == pytest.approx(scale**power * value, rel=1e-4)


@pytest.mark.parametrize("loss", [L1(), L2()])
def test_shapes_must_agree(loss):
    with pytest.raises(AssertionError, match="broadcasting"):
        loss(torch.zeros(4, 3), torch.zeros(4, 1))


@pytest.mark.parametrize("loss", [L1, L2])
def test_there_is_nothing_to_set(loss):
    with pytest.raises(TypeError, match="unexpected keyword"):
        loss(reduction="sum")
