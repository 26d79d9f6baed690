"""Cross entropy of one label an image: by hand, with smoothing and weights of classes."""

import math

import pytest
import torch
import torch.nn.functional as F

from lshfm.errors import InputError
from lshfm.losses.single_label import CE

# Softmaxes (1/4, 3/4) and (2/3, 1/3).
LOGITS = torch.tensor([[0.0, math.log(3)], [math.log(2), 0.0]], dtype=torch.float64)
LABELS = torch.tensor([1, 1])


def value_and_slope(
    loss: CE, logits: torch.Tensor = LOGITS, labels: torch.Tensor = LABELS
) -> tuple[float, torch.Tensor]:
    given = logits.clone().requires_grad_()
    value = loss(given, labels)
    value.backward()
    assert given.grad is not None
    return value.item(), given.grad


def test_by_hand() -> None:
    value, slope = value_and_slope(CE())
    assert value == pytest.approx((math.log(4 / 3) + math.log(3)) / 2, abs=1e-12)
    torch.testing.assert_close(slope, torch.tensor([[1 / 4, -1 / 4], [2 / 3, -2 / 3]], dtype=torch.float64) / 2)


def test_smoothing_shares_the_target_among_all_classes() -> None:
    value, slope = value_and_slope(CE(label_smoothing=0.2))  # targets 0.1 and 0.9
    by_hand = [0.1 * math.log(4) + 0.9 * math.log(4 / 3), 0.1 * math.log(3 / 2) + 0.9 * math.log(3)]
    assert value == pytest.approx(sum(by_hand) / 2, abs=1e-12)
    expected = torch.tensor([[0.25 - 0.1, 0.75 - 0.9], [2 / 3 - 0.1, 1 / 3 - 0.9]], dtype=torch.float64) / 2
    torch.testing.assert_close(slope, expected)


def test_weights_of_classes_are_divided_by_the_images_so_that_parts_add_up() -> None:
    loss, labels = CE(class_weights=[3, 0.5]), torch.tensor([0, 1])
    loss.set_up(labels, 2)
    value, slope = value_and_slope(loss, labels=labels)
    assert value == pytest.approx((3 * math.log(4) + 0.5 * math.log(3)) / 2, abs=1e-6)
    rows = [[3 * (0.25 - 1), 3 * 0.75], [0.5 * 2 / 3, -0.5 * 2 / 3]]
    torch.testing.assert_close(slope, torch.tensor(rows, dtype=torch.float64) / 2)
    halves = [loss(LOGITS[i : i + 1], labels[i : i + 1]) for i in range(2)]
    assert float(sum(halves)) / 2 == pytest.approx(value, abs=1e-12)


def test_auto_weighs_every_class_alike() -> None:
    loss = CE(class_weights="auto")
    loss.set_up(torch.tensor([0, 0, 0, 1]), 3)
    assert loss.counted == {"class_weights": pytest.approx([4 / 9, 4 / 3, 1.0])}
    assert "3 classes from 0.444 to 1.33" in loss.extra_repr()


def test_extremes_are_finite() -> None:
    value, slope = value_and_slope(CE(), torch.tensor([[1e4, -1e4]]), torch.tensor([1]))
    assert value == 2e4
    assert slope.tolist() == [[1.0, -1.0]]
    assert CE()(LOGITS, LABELS) == F.cross_entropy(LOGITS, LABELS)


def test_weights_of_other_classes_are_refused() -> None:
    with pytest.raises(InputError, match="class_weights has 2 numbers and the data set 3 classes"):
        CE(class_weights=[1, 2]).set_up(LABELS, 3)
    with pytest.raises(InputError, match=r"class_weights=\[1, -1\] must be a list of finite numbers above 0"):
        CE(class_weights=[1, -1])
    with pytest.raises(InputError, match="label_smoothing=1 must be"):
        CE(label_smoothing=1)
