"""BCE and the asymmetric loss: hand-computed values and gradients, finite differences, extremes."""

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from lshfm.errors import InputError
from lshfm.losses.classification import ASL, BCE, Summed, targets

GAMMAS = st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0, 4.0])
CLIPS = st.sampled_from([0.0, 1e-40, 1e-8, 0.05, 0.3, 0.9])
LOGITS = st.floats(-1e4, 1e4, width=32)


def labels_of(target):
    """Labels whose targets these are."""
    return (2 * torch.as_tensor(target) - 1).to(torch.int8)


def value_and_slope(loss, logit, target, dtype=torch.float32):
    """Loss of a single entry and its derivative."""
    logits = torch.tensor([[logit]], dtype=dtype, requires_grad=True)
    value = loss(logits, labels_of([[target]]))
    (slope,) = torch.autograd.grad(value, logits)
    return value.item(), slope.item()


def logit_of(p):
    return math.log(p / (1 - p))


def test_a_difficult_label_counts_as_positive():
    found = targets(torch.tensor([[1, 0, -1]], dtype=torch.int8))
    assert (found.dtype, found.tolist()) == (torch.float32, [[1, 1, 0]])


@pytest.mark.parametrize("loss", [BCE(), ASL()])
def test_targets_are_no_labels(loss):
    with pytest.raises(AssertionError, match="every one would count as positive"):
        loss(torch.zeros(1, 2), torch.tensor([[0.0, 1.0]]))


def test_bce_by_hand():
    logits = torch.tensor([[0.0, logit_of(0.8)], [logit_of(0.1), logit_of(0.25)]], requires_grad=True)
    value = BCE()(logits, labels_of([[1, 0], [0, 1]]))
    value.backward()
    assert value.item() == pytest.approx(-math.log(0.5 * 0.2 * 0.9 * 0.25) / 4, abs=1e-6)
    slopes = torch.tensor([[-0.5, 0.8], [0.1, -0.75]]) / 4  # (p - y) / (B * C)
    torch.testing.assert_close(logits.grad, slopes, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("p", "target", "options", "value", "slope"),
    [
        # positive: -(1-p)^g log p, slope p (1-p) [g (1-p)^(g-1) log p - (1-p)^g / p]
        (0.8, 1.0, {}, -math.log(0.8), -0.2),
        (0.8, 1.0, {"gamma_pos": 1.0}, -0.2 * math.log(0.8), 0.16 * (math.log(0.8) - 0.25)),
        (0.5, 1.0, {"gamma_pos": 2.0}, 0.25 * math.log(2), -0.25 * (math.log(2) + 0.5)),
        # negative: -p_m^g log(1-p_m), slope p (1-p) [-g p_m^(g-1) log(1-p_m) + p_m^g / (1-p_m)]
        (0.25, 0.0, {}, -(0.2**4) * math.log(0.8), 0.1875 * (-4 * 0.2**3 * math.log(0.8) + 0.2**4 / 0.8)),
        (0.5, 0.0, {"clip": 0.0, "gamma_neg": 1.0}, 0.5 * math.log(2), 0.25 * (math.log(2) + 1)),
        (0.95, 0.0, {"gamma_neg": 0.0}, -math.log(0.1), 0.0475 / 0.1),
        (0.3, 0.0, {"gamma_neg": 0.5}, -0.5 * math.log(0.75), 0.21 * (0.5 / 0.75 - math.log(0.75))),
        (0.04, 0.0, {}, 0.0, 0.0),
        (0.04, 0.0, {"gamma_neg": 0.5}, 0.0, 0.0),
        (0.04, 0.0, {"gamma_neg": 0.0}, 0.0, 0.0),
    ],
)
def test_asl_of_one_entry_by_hand(p, target, options, value, slope):
    found = value_and_slope(ASL(**options), logit_of(p), target)
    assert found == pytest.approx((value, slope), abs=1e-6)


def test_asl_mean_and_sum_by_hand():
    logits = torch.tensor([[0.0, logit_of(0.25)], [logit_of(0.8), logit_of(0.04)]])
    labels = labels_of([[1, 0], [1, 0]])
    total = math.log(2) - 0.2**4 * math.log(0.8) - math.log(0.8) + 0
    assert ASL(reduction="sum")(logits, labels).item() == pytest.approx(total, abs=1e-6)
    assert ASL()(logits, labels).item() == pytest.approx(total / 4, abs=1e-6)


def test_published_defaults():
    loss = ASL()
    assert (loss.gamma_neg, loss.gamma_pos, loss.clip, loss.reduction) == (4, 0, 0.05, "mean")


def test_names():
    assert (BCE().name, ASL().name) == ("bce", "asl")


def test_losses_have_no_state():
    assert not ASL().state_dict()
    assert not list(ASL().parameters())


@pytest.mark.parametrize("gamma_neg", [0.0, 0.5, 1.0, 4.0])
@pytest.mark.parametrize("gamma_pos", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("clip", [0.0, 0.05, 0.4])
def test_gradient_by_finite_differences(gamma_neg, gamma_pos, clip):
    # Both sides of every clip and of the switch at p_m = 0.5, and no logit on a kink.
    logits = torch.linspace(-6.1, 6.3, 14, dtype=torch.double).reshape(7, 2).requires_grad_()
    labels = labels_of([[0, 1], [0, 0]]).repeat(4, 1)[:7]
    loss = ASL(gamma_neg, gamma_pos, clip, reduction="sum")
    assert torch.autograd.gradcheck(lambda z: loss(z, labels), (logits,))
    assert torch.autograd.gradcheck(lambda z: loss(z, -labels), (logits,))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_asl_without_focusing_and_clip_is_bce(reduction):
    logits = torch.cat([torch.linspace(-30, 30, 61), torch.tensor([-1e4, -200.0, 200.0, 1e4, 0.0])])[None]
    for labels in (-torch.ones_like(logits, dtype=torch.int8), torch.ones_like(logits, dtype=torch.int8)):
        found, expected = logits.clone().requires_grad_(), logits.clone().requires_grad_()
        value = ASL(0, 0, 0, reduction)(found, labels)
        reference = BCE()(expected, labels) * (1 if reduction == "mean" else logits.numel())
        value.backward()
        reference.backward()
        torch.testing.assert_close(value, reference)
        torch.testing.assert_close(found.grad, expected.grad, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 4.0])
def test_extremes(gamma):
    wrong_positive = value_and_slope(ASL(gamma_pos=gamma), -1e4, 1.0)
    assert wrong_positive == pytest.approx((1e4, -1))
    wrong_negative = value_and_slope(ASL(gamma, clip=0), 1e4, 0.0)
    assert wrong_negative == pytest.approx((1e4, 1))
    clipped = value_and_slope(ASL(gamma, clip=0.05), 1e4, 0.0)
    assert clipped == pytest.approx((-(0.95**gamma) * math.log(0.05), 0))
    right = value_and_slope(ASL(gamma, gamma), -1e4, 0.0), value_and_slope(ASL(gamma, gamma), 1e4, 1.0)
    assert right == (pytest.approx((0, 0), abs=1e-30), pytest.approx((0, 0), abs=1e-30))


@given(LOGITS, st.sampled_from([0.0, 1.0]), GAMMAS, GAMMAS, CLIPS)
def test_value_and_gradient_are_finite_and_point_the_right_way(logit, target, gamma_neg, gamma_pos, clip):
    value, slope = value_and_slope(ASL(gamma_neg, gamma_pos, clip), logit, target)
    assert 0 <= value <= 1.0001e4
    assert math.isfinite(slope)
    assert slope <= 0 if target else slope >= 0


@given(st.floats(-60, 60, width=32), st.sampled_from([0.0, 1.0]), GAMMAS, GAMMAS, CLIPS)
def test_fp32_agrees_with_double_precision(logit, target, gamma_neg, gamma_pos, clip):
    assume(clip < 1e-3 or abs(1 / (1 + math.exp(-logit)) - clip) > 1e-3)  # the slope jumps at p = clip
    loss = ASL(gamma_neg, gamma_pos, clip)
    single = value_and_slope(loss, logit, target, torch.float32)
    double = value_and_slope(loss, logit, target, torch.double)
    assert single == pytest.approx(double, rel=1e-4, abs=1e-5)


@given(LOGITS, st.sampled_from([0.0, 1.0]), GAMMAS, CLIPS)
def test_focusing_and_clip_only_take_away(logit, target, gamma, clip):
    plain, _ = value_and_slope(BCE(), logit, target)
    asymmetric, _ = value_and_slope(ASL(gamma, gamma, clip), logit, target)
    assert asymmetric <= plain * (1 + 1e-5) + 1e-7


def test_shapes_must_agree():
    with pytest.raises(AssertionError, match="broadcasting"):
        ASL()(torch.zeros(4, 3), labels_of(torch.zeros(4, 1)))
    with pytest.raises(ValueError, match="Target size"):
        BCE()(torch.zeros(4, 3), labels_of(torch.zeros(4, 1)))


BAD_NUMBERS = [-1, -1e-9, math.nan, math.inf, 10**400, True, "4", None, [4.0]]


@pytest.mark.parametrize("value", BAD_NUMBERS, ids=lambda value: str(value)[:12])
@pytest.mark.parametrize("name", ["gamma_neg", "gamma_pos", "clip"])
def test_options_that_are_no_number_in_range_are_refused(name, value):
    with pytest.raises(InputError, match=f"{name} must be"):
        ASL(**{name: value})


@pytest.mark.parametrize("clip", [1, 1.0, 1.5])
def test_a_clip_of_one_or_more_would_discard_every_negative(clip):
    with pytest.raises(InputError, match="0 <= clip < 1"):
        ASL(clip=clip)


@pytest.mark.parametrize("reduction", ["none", "", "Mean", None, True])
def test_unknown_reductions_are_refused(reduction):
    with pytest.raises(InputError, match="mean, sum"):
        ASL(reduction=reduction)


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_a_sum_over_a_batch_in_parts_is_the_sum_over_the_batch(parts: int) -> None:
    logits, labels = torch.randn(8, 3, dtype=torch.float64), torch.randint(-1, 2, (8, 3), dtype=torch.int8)
    pieces = [
        Summed(ASL(reduction="sum"), parts)(*p) for p in zip(logits.chunk(parts), labels.chunk(parts), strict=True)
    ]
    assert torch.stack(pieces).mean().item() == pytest.approx(ASL(reduction="sum")(logits, labels).item())


def random_entries(classes=3, images=5):
    chance = torch.Generator().manual_seed(0)
    logits = torch.randn(images, classes, generator=chance)
    return logits, torch.randint(-1, 2, (images, classes), generator=chance).to(torch.int8)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_bce_with_weights_and_smoothing_is_torchs(smoothing):
    logits, labels = random_entries()
    weights = torch.tensor([0.5, 1.0, 7.0])
    smoothed = targets(labels) * (1 - smoothing) + smoothing / 2
    expected = torch.nn.BCEWithLogitsLoss(pos_weight=weights)(logits, smoothed)
    ours = BCE([0.5, 1, 7], label_smoothing=smoothing)
    ours.set_up(labels)
    assert torch.equal(ours(logits, labels), expected)


def test_smoothing_by_hand():
    value = BCE(label_smoothing=0.4)(torch.tensor([[logit_of(0.8), logit_of(0.8)]]), labels_of([[1, 0]]))
    first, second = (-(y * math.log(0.8) + (1 - y) * math.log(0.2)) for y in (0.8, 0.2))
    assert value.item() == pytest.approx((first + second) / 2, abs=1e-6)


def test_the_plain_loss_is_what_it_was_to_the_bit():
    logits, labels = random_entries()
    plain = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets(labels))
    assert torch.equal(BCE()(logits, labels), plain)
    assert (BCE().extra_repr(), list(BCE().state_dict())) == ("", [])


def test_auto_weights_are_negatives_a_positive_of_the_training_labels():
    """A difficult label is a positive, as in training; a class without one of the two kinds weighs 1."""
    labels = torch.tensor([[1, -1, 1, -1], [0, -1, 1, -1], [-1, -1, 1, 1], [-1, 1, 1, -1]], dtype=torch.int8)
    loss = BCE("auto", label_smoothing=0.1)
    with pytest.raises(AssertionError, match="set_up comes first"):
        loss(torch.zeros(4, 4), labels)
    loss.set_up(labels)
    assert loss.weights.tolist() == [1, 3, 1, 3]
    assert loss.extra_repr() == "pos_weight of 4 classes from 1 to 3, label_smoothing=0.1"


@pytest.mark.parametrize("weights", [[1, 0], [1, -1], [math.inf], [math.nan], [], "automatic", 3, [True], ["1"]])
def test_weights_that_are_none(weights):
    with pytest.raises(InputError, match=r"^pos_weight=.* must be a list of finite numbers above 0, one a class, or"):
        BCE(weights)


def test_weights_of_other_classes():
    with pytest.raises(InputError, match=r"^pos_weight has 2 numbers and the data set 3 classes: give one a class"):
        BCE([1, 2]).set_up(random_entries()[1])


@pytest.mark.parametrize("share", [-0.1, 1, math.nan, "0.1", True])
def test_a_smoothing_that_is_none(share):
    with pytest.raises(InputError, match=r"^label_smoothing=.* must be a number from 0 to below 1"):
        BCE(label_smoothing=share)
