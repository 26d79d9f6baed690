"""Losses over the images that the teacher gets right: value and gradient by hand."""

import math

import pytest
import torch

from lshfm.errors import InputError
from lshfm.losses.correct import CorrectL2, CorrectLSH
from lshfm.losses.features import L2
from lshfm.losses.lsh import LSH, HashFunctions, draw_weights

FEATURE_S = torch.tensor([[1.0, 2.0], [0.5, -1.0], [3.0, 3.0]])
FEATURE_T = torch.tensor([[0.0, 1.0], [2.0, 2.0], [1.0, -1.0]])
W, B = torch.tensor([[1.0, -1.0], [0.5, 0.5], [-2.0, 1.0]]), torch.tensor([0.25, -1.0, 0.0])
FUNCTIONS = HashFunctions(W, B, 1.0, 0, "zero")
WEIGHTS = torch.tensor([0.5, 0.0, 0.5])  # the teacher is right on the first and the last of three


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_l2_by_hand() -> None:
    feature_s = FEATURE_S.double().requires_grad_()
    value = CorrectL2()(feature_s, FEATURE_T.double(), WEIGHTS.double())
    value.backward()
    assert value.item() == pytest.approx(((1 + 1) / 2 + (4 + 16) / 2) / 2, abs=1e-12)
    expected = torch.tensor([[1.0, 1.0], [0.0, 0.0], [2.0, 4.0]], dtype=torch.float64) * 2 / 2 / 2  # 2 d / D / M
    torch.testing.assert_close(feature_s.grad, expected)


def test_lsh_by_hand() -> None:
    """(1 / M) sum_i m_i / N sum_n BCE(h_s, [h_t > 0]); its slope is m_i / (M N) W^T (sigmoid(h_s) - bits)."""
    feature_s = FEATURE_S.clone().requires_grad_()
    value = CorrectLSH(FUNCTIONS)(feature_s, FEATURE_T, WEIGHTS)
    value.backward()
    total, slopes = 0.0, [[0.0, 0.0] for _ in range(3)]
    for i in (0, 2):
        for n in range(3):
            w, b = W[n].tolist(), float(B[n])
            h_s, h_t = (sum(x * y for x, y in zip(w, f[i].tolist(), strict=True)) + b for f in (FEATURE_S, FEATURE_T))
            bit = float(h_t > 0)
            total += (math.log(1 + math.exp(-h_s)) if bit else math.log(1 + math.exp(h_s))) / 3 / 2
            for d in range(2):
                slopes[i][d] += w[d] * (sigmoid(h_s) - bit) / 3 / 2
    assert value.item() == pytest.approx(total, abs=1e-6)
    torch.testing.assert_close(feature_s.grad, torch.tensor(slopes), atol=1e-6, rtol=0)


def test_no_image_right_is_zero_without_gradient() -> None:
    for loss in (CorrectL2(), CorrectLSH(FUNCTIONS)):
        feature_s = FEATURE_S.clone().requires_grad_()
        value = loss(feature_s, FEATURE_T, torch.zeros(3))
        value.backward()
        assert value.item() == 0
        assert not feature_s.grad.any()


def test_all_images_right_is_the_plain_loss() -> None:
    functions = HashFunctions(draw_weights(64, 2, 1.0, 0), torch.zeros(64), 1.0, 0, "zero")
    even = torch.full((3,), 1 / 3)
    for loss, plain in ((CorrectL2(), L2()), (CorrectLSH(functions), LSH(functions))):
        torch.testing.assert_close(loss(FEATURE_S, FEATURE_T, even), plain(FEATURE_S, FEATURE_T), atol=1e-6, rtol=0)


def test_another_form_is_refused() -> None:
    with pytest.raises(InputError, match="form=l2: losses over the teacher's right answers compare bits"):
        CorrectLSH(FUNCTIONS, "l2")
