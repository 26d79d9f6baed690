"""KL between softened logits: hand-computed values and gradients, PyTorch's own KL, extremes."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from lshfm.errors import InputError
from lshfm.losses.logits import KL, SigmoidKL

SEEDS = st.integers(0, 2**32)
TEMPERATURES = st.sampled_from([0.5, 1, 2.0, 4.0, 20.0])
LOGITS = st.floats(-1e4, 1e4, width=32)
BOTH = pytest.mark.parametrize("loss", [KL, SigmoidKL])


def draw(seed):
    """Logits of student and teacher, (B, C) = (3, 5)."""
    logits = 3 * torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(seed))
    return logits[0].requires_grad_(), logits[1]


def test_kl_by_hand():
    # T = 2 halves the logits: the softmaxes are (1/4, 3/4) and (1/2, 1/2) of the first row, equal in the second.
    logits_s = torch.tensor([[0.0, 2 * math.log(3)], [1.0, 5.0]], requires_grad=True)
    logits_t = torch.tensor([[3.0, 3.0], [2.0, 6.0]])
    value = KL(2.0)(logits_s, logits_t)
    value.backward()
    assert value.item() == pytest.approx(4 / 2 * (0.5 * math.log(2) + 0.5 * math.log(2 / 3)), abs=1e-6)
    slopes = torch.tensor([[0.25 - 0.5, 0.75 - 0.5], [0.0, 0.0]]) * 2 / 2  # T / B * (p_s - p_t)
    torch.testing.assert_close(logits_s.grad, slopes, atol=1e-6, rtol=0)


def test_sigmoid_kl_by_hand():
    # T = 2: sigmoids 1/4 and 1/2, 4/5 and 1/5.
    logits_s = torch.tensor([[-2 * math.log(3), 2 * math.log(4)]], requires_grad=True)
    logits_t = torch.tensor([[0.0, -2 * math.log(4)]])
    value = SigmoidKL(2.0)(logits_s, logits_t)
    value.backward()
    first = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    second = 0.2 * math.log(0.2 / 0.8) + 0.8 * math.log(0.8 / 0.2)
    assert value.item() == pytest.approx(4 * (first + second) / 2, abs=1e-6)
    slopes = torch.tensor([[0.25 - 0.5, 0.8 - 0.2]]) * 2 / 2  # T / (B C) * (p_s - p_t)
    torch.testing.assert_close(logits_s.grad, slopes, atol=1e-6, rtol=0)


@given(SEEDS, TEMPERATURES)
def test_kl_against_pytorch_on_probabilities(seed, temperature):
    logits_s, logits_t = draw(seed)
    oracle = F.kl_div(
        (logits_s.double() / temperature).softmax(1).log(),
        (logits_t.double() / temperature).softmax(1),
        reduction="sum",
    )
    expected = temperature**2 / 3 * oracle
    value = KL(temperature)(logits_s.double(), logits_t.double())  # in fp32 T^2 would carry rounding along
    torch.testing.assert_close(value, expected, atol=1e-9, rtol=1e-9)
    (found,) = torch.autograd.grad(value, logits_s)
    torch.testing.assert_close(found, torch.autograd.grad(expected, logits_s)[0], atol=1e-6, rtol=1e-6)


@given(SEEDS, TEMPERATURES)
def test_sigmoid_kl_is_bce_less_the_teachers_entropy(seed, temperature):
    logits_s, logits_t = (logits.double() for logits in draw(seed))  # in fp32 T^2 would carry rounding along
    targets = torch.sigmoid(logits_t / temperature)
    cross, entropy = (F.binary_cross_entropy_with_logits(z / temperature, targets) for z in (logits_s, logits_t))
    value = SigmoidKL(temperature)(logits_s, logits_t)
    torch.testing.assert_close(value, temperature**2 * (cross - entropy), atol=1e-9, rtol=1e-9)
    (found,) = torch.autograd.grad(value, logits_s)
    slopes = temperature * (torch.sigmoid(logits_s / temperature) - targets) / 15
    torch.testing.assert_close(found, slopes.detach(), atol=1e-6, rtol=1e-5)


@BOTH
@given(seed=SEEDS, temperature=TEMPERATURES)
def test_zero_at_equality_and_positive_elsewhere(loss, seed, temperature):
    logits_s, logits_t = draw(seed)
    assert loss(temperature)(logits_s, logits_t).item() > 0
    assert loss(temperature)(logits_t, logits_t).item() == 0


def test_softmax_kl_does_not_see_a_common_shift_and_sigmoid_kl_does():
    _, logits = draw(0)
    assert KL()(logits + 2, logits).item() == pytest.approx(0, abs=1e-5)
    assert SigmoidKL()(logits + 2, logits).item() > 0.1


def test_extremes():
    far = torch.tensor([[1e4, -1e4]]), torch.tensor([[-1e4, 1e4]])
    assert KL(1.0)(*far).item() == pytest.approx(2e4)
    assert SigmoidKL(1.0)(*far).item() == pytest.approx(1e4)


@BOTH
@given(s=st.lists(LOGITS, min_size=2, max_size=2), t=st.lists(LOGITS, min_size=2, max_size=2), temperature=TEMPERATURES)
def test_value_and_gradient_stay_finite(loss, s, t, temperature):
    logits_s, logits_t = torch.tensor([s], requires_grad=True), torch.tensor([t])
    value = loss(temperature)(logits_s, logits_t)
    value.backward()
    rounding = 1e-6 * temperature**2 + 1e-5
    assert -rounding <= value.item() <= temperature * 2.1e4
    assert logits_s.grad.abs().max().item() <= temperature


@BOTH
def test_the_published_temperature_is_the_default(loss):
    assert loss().temperature == 4


@BOTH
@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf, 10**400, True, "4", None], ids=lambda v: str(v)[:8])
def test_temperatures_that_are_no_number_above_zero_are_refused(loss, value):
    with pytest.raises(InputError, match=r"^temperature=.* above 0"):
        loss(value)


@BOTH
def test_shapes_must_agree(loss):
    with pytest.raises(AssertionError, match="broadcasting"):
        loss()(torch.zeros(4, 3), torch.zeros(4, 1))
