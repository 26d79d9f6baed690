"""Hash functions and the LSH loss: hand-computed values and gradients, bit-equal medians, refusals."""

import hashlib
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lshfm.errors import InputError
from lshfm.losses.lsh import LSH, HashFunctions, draw_weights, drawn_bias, hash_bias, not_finite, teacher_std

SEEDS = st.integers(0, 2**32)
FORMS = pytest.mark.parametrize("form", ["bce", "l1", "l2"])
SMALL_CHUNKS = 0  # max_bytes: as little as hash_bias goes down to


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def functions(num=6, width=3, seed=0):
    return HashFunctions(draw_weights(num, width, 0.5, seed), normal(num, seed=seed + 1), 0.5, seed, "median")


def by_hand():
    """Two features of width 2 and two hash functions: h_s = (1, 0), (2, -1) and h_t = (-1, 2), (3, -2)."""
    hashing = HashFunctions(torch.tensor([[1.0, 0.0], [-1.0, 2.0]]), torch.tensor([0.0, 1.0]), 1.0, 0, "zero")
    feature_s = torch.tensor([[1.0, 0.0], [2.0, 0.0]], requires_grad=True)
    feature_t = torch.tensor([[-1.0, 0.0], [3.0, 0.0]], requires_grad=True)
    return hashing, feature_s, feature_t


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def slopes_by_hand(form):
    """d loss / d h_s, times the 4 entries."""
    return {
        "bce": [[sigmoid(1), 0.5 - 1], [sigmoid(2) - 1, sigmoid(-1)]],
        "l1": [[1, -1], [-1, 1]],
        "l2": [[2 * 2, 2 * -2], [2 * -1, 2 * 1]],
    }[form]


@pytest.mark.parametrize(
    ("form", "value"),
    [
        # the teacher's bits are 0 1 and 1 0
        ("bce", -(math.log(1 - sigmoid(1)) + math.log(0.5) + math.log(sigmoid(2)) + math.log(1 - sigmoid(-1))) / 4),
        ("l1", (2 + 2 + 1 + 1) / 4),
        ("l2", (4 + 4 + 1 + 1) / 4),
    ],
)
def test_value_and_gradient_by_hand(form, value):
    hashing, feature_s, feature_t = by_hand()
    found = LSH(hashing, form)(feature_s, feature_t)
    found.backward()
    assert found.item() == pytest.approx(value, abs=1e-6)
    rows = [[(d1 * 1 + d2 * -1) / 4, (d1 * 0 + d2 * 2) / 4] for d1, d2 in slopes_by_hand(form)]  # slope W
    torch.testing.assert_close(feature_s.grad, torch.tensor(rows), atol=1e-6, rtol=0)
    assert feature_t.grad is None


@given(SEEDS)
def test_bce_gradient_is_sigmoid_less_bit(seed):
    hashing, feature_s = functions(seed=seed), normal(4, 3, seed=seed).requires_grad_()
    feature_t = normal(4, 3, seed=seed + 1)
    (found,) = torch.autograd.grad(LSH(hashing)(feature_s, feature_t), feature_s)
    weights, bias = hashing.weights.double(), hashing.bias.double()
    bits = feature_t.double() @ weights.T + bias > 0
    expected = (torch.sigmoid(feature_s.detach().double() @ weights.T + bias) - bits.double()) @ weights / (4 * 6)
    torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=1e-5)


@given(SEEDS, st.floats(0.1, 10))
def test_distances_scale_are_zero_at_equality_and_do_not_see_the_bias(seed, scale):
    feature_s, feature_t = normal(2, 4, 3, seed=seed)
    hashing = functions(seed=seed)
    moved = HashFunctions(hashing.weights, hashing.bias + 1000, 0.5, seed, "zero")
    for form, power in (("l1", 1), ("l2", 2)):
        value = LSH(hashing, form)(feature_s, feature_t).item()
        assert value > 0
        assert LSH(moved, form)(feature_s, feature_t).item() == value
        assert LSH(hashing, form)(feature_s, feature_s).item() == 0
        assert LSH(hashing, form)(scale * feature_s, scale * feature_t).item() == pytest.approx(
            scale**power * value, rel=1e-4
        )


def test_bce_sees_only_the_side_the_teacher_is_on():
    """Of a teacher's feature twice as long the bits stay, with b = 0: LSH mimics directions."""
    hashing = HashFunctions(draw_weights(8, 3, 1.0, 0), torch.zeros(8), 1.0, 0, "zero")
    feature_s, feature_t = normal(2, 4, 3)
    value = LSH(hashing)(feature_s, feature_t).item()
    assert LSH(hashing)(feature_s, 2 * feature_t).item() == value
    assert LSH(hashing)(feature_s, -feature_t).item() != value


def test_a_teacher_on_the_plane_has_bit_0():
    hashing = HashFunctions(torch.tensor([[1.0]]), torch.tensor([-3.0]), 1.0, 0, "median")
    value = LSH(hashing)(torch.tensor([[5.0]]), torch.tensor([[3.0]]))
    assert value.item() == pytest.approx(-math.log(1 - sigmoid(2)), abs=1e-6)


@FORMS
def test_autocast_changes_nothing(form):
    loss, (feature_s, feature_t) = LSH(functions(), form), normal(2, 4, 3)
    with torch.autocast("cpu", torch.bfloat16):
        inside = loss(feature_s, feature_t)
    assert inside.dtype == torch.float32
    assert inside.item() == loss(feature_s, feature_t).item()


@FORMS
def test_features_of_a_mixed_precision_network_are_taken_up(form):
    loss, (feature_s, feature_t) = LSH(functions(), form), normal(2, 4, 3).bfloat16()
    assert loss(feature_s, feature_t).item() == loss(feature_s.float(), feature_t.float()).item()


def test_nothing_is_saved_or_trained():
    loss = LSH(functions())
    assert not loss.state_dict()
    assert not list(loss.parameters())
    assert {name for name, _ in loss.named_buffers()} == {"weights", "bias"}


def test_shapes_must_agree():
    with pytest.raises(AssertionError, match="broadcasting"):
        LSH(functions())(torch.zeros(4, 3), torch.zeros(1, 3))


@pytest.mark.parametrize("form", ["BCE", "l3", "", None, True, ["bce"]])
def test_unknown_forms_are_refused(form):
    with pytest.raises(InputError, match=r"^form=.* choices: bce, l1, l2"):
        LSH(functions(), form)
    if form == "BCE":
        with pytest.raises(InputError, match="did you mean 'bce'"):
            LSH(functions(), form)


def test_weights_are_normal_repeatable_and_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    weights = draw_weights(400, 500, 0.03, seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    assert (weights.shape, weights.dtype) == ((400, 500), torch.float32)
    assert torch.equal(weights, draw_weights(400, 500, 0.03, seed=5))
    assert not torch.equal(weights, draw_weights(400, 500, 0.03, seed=6))
    # 200000 entries: the mean's deviation is 0.03 / 447, that of the standard deviation 0.03 / 632
    assert weights.mean().item() == pytest.approx(0, abs=5 * 0.03 / 447)
    assert weights.std().item() == pytest.approx(0.03, abs=5 * 0.03 / 632)


@pytest.mark.parametrize("value", [0, -1, True, 2.0, "8", None])
def test_sizes_that_are_no_whole_number_above_zero_are_refused(value):
    with pytest.raises(InputError, match=r"^hash_num=.* whole number above 0"):
        draw_weights(value, 3, 0.1, 0)
    with pytest.raises(InputError, match=r"feature's width=.* whole number above 0"):
        draw_weights(8, value, 0.1, 0)


@pytest.mark.parametrize("std", [0, 0.0, -0.1, math.nan, math.inf, 1e-50, 10**400, True, "1"], ids=lambda v: str(v)[:6])
def test_deviations_that_are_no_number_above_zero_are_refused(std):
    with pytest.raises(InputError, match=r"^std=.* above 0"):
        draw_weights(8, 3, std, 0)


def test_the_teachers_deviation_is_unbiased():
    # entries 1 2 3 6: mean 3, squares of the differences 4 + 1 + 0 + 9 = 14, over 3
    weight = torch.tensor([[1.0, 2.0], [3.0, 6.0]], requires_grad=True)
    assert teacher_std(weight) == pytest.approx(math.sqrt(14 / 3), rel=1e-12)


@pytest.mark.parametrize("weight", [torch.zeros(3, 4), torch.ones(1, 1), torch.full((2, 2), math.nan)])
def test_a_classifier_that_does_not_vary_gives_no_deviation(weight):
    with pytest.raises(InputError, match=r"do not vary.* give std=NUMBER"):
        teacher_std(weight)


def test_what_is_kept_of_hash_functions():
    hashing = functions(num=2, width=3, seed=7)
    digest = hashlib.sha256(b"".join(row.numpy().tobytes() for row in hashing.weights)).hexdigest()
    state = hashing.state()
    assert torch.equal(state.pop("bias"), hashing.bias)
    assert state == {"num": 2, "width": 3, "std": 0.5, "seed": 7, "rule": "median", "sha256": digest}
    assert functions(num=2, width=3, seed=8).sha256() != digest
    assert hashing != functions(num=2, width=3, seed=7), "compared by identity, not tensor by tensor"


def test_bias_by_hand():
    features, weights = (
        torch.tensor([[1.0, 0.0], [2.0, 1.0], [6.0, 0.0], [4.0, 2.0]]),
        torch.tensor([[1.0, 0], [0, -3]]),
    )
    # W f: 1 2 6 4 and 0 -3 0 -6; of four values the lower median is the second smallest
    assert hash_bias(features, weights, "median").tolist() == [-2, 3]
    assert hash_bias(features, weights, "mean").tolist() == [-13 / 4, 9 / 4]
    assert hash_bias(features, weights, "zero").tolist() == [0, 0]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(
    ("num", "rows", "width", "max_bytes", "chunks"),
    [
        (1, 1, 5, SMALL_CHUNKS, 1),
        (300, 1, 5, SMALL_CHUNKS, 1),
        (1, 300, 5, SMALL_CHUNKS, 1),
        (65, 16384, 3, SMALL_CHUNKS, 1),  # 64 and a rest of one
        (127, 16384, 8, SMALL_CHUNKS, 1),
        (129, 16384, 8, SMALL_CHUNKS, 2),
        (200, 20001, 16, SMALL_CHUNKS, 3),
        (1301, 2051, 33, SMALL_CHUNKS, 2),
        (1301, 2051, 33, 2**24, 1),
        (3000, 1024, 2, SMALL_CHUNKS, 2),
        (2049, 1025, 130, 2**23, 2),
    ],
)
def test_medians_are_bit_equal_to_the_whole_matrix(num, rows, width, max_bytes, chunks, threads):
    features, weights = normal(rows, width), normal(num, width, seed=1)
    done = []
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = hash_bias(features, weights, "median", report=lambda *part: done.append(part), max_bytes=max_bytes)
        whole = -(weights @ features.T).median(dim=1).values
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found, whole)
    assert len(done) == chunks
    assert done[-1] == (num, num)


@given(st.integers(1, 40), st.integers(1, 6), SEEDS)
def test_bits_are_halved_by_the_median_and_centred_by_the_mean(rows, num, seed):
    features, weights = normal(rows, 4, seed=seed), normal(num, 4, seed=seed + 1)
    hashes = features.double() @ weights.double().T
    above = hashes + hash_bias(features, weights, "median").double() > 1e-5
    assert (above.sum(dim=0) <= rows // 2).all()
    below = hashes + hash_bias(features, weights, "median").double() < -1e-5
    assert (below.sum(dim=0) <= (rows - 1) // 2).all()
    centred = (hashes + hash_bias(features, weights, "mean").double()).mean(dim=0)
    torch.testing.assert_close(centred, torch.zeros_like(centred), atol=1e-5, rtol=0)


def test_bias_is_single_precision_inside_autocast_and_in_deterministic_mode():
    features, weights = normal(50, 8), normal(20, 8, seed=1)
    plain = {rule: hash_bias(features, weights, rule) for rule in ("median", "mean")}
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            assert all(torch.equal(hash_bias(features, weights, rule), plain[rule]) for rule in plain)
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("rule", ["medain", "Median", None, True, ["mean"]])
def test_unknown_rules_are_refused(rule):
    with pytest.raises(InputError, match=r"^rule=.* choices: median, mean, zero"):
        hash_bias(torch.zeros(2, 3), torch.zeros(4, 3), rule)


def test_the_nearest_rule_is_suggested():
    with pytest.raises(InputError, match="did you mean 'median'"):
        hash_bias(torch.zeros(2, 3), torch.zeros(4, 3), "medain")


def test_rows_that_are_not_finite_are_found():
    features = torch.zeros(6, 3)
    assert not_finite(features) == []
    features[1, 2], features[3, 0], features[4, 1] = math.nan, math.inf, -math.inf
    assert not_finite(features) == [1, 3, 4]
    with pytest.raises(AssertionError, match="names the images"):
        hash_bias(features, torch.zeros(4, 3), "zero")


@pytest.mark.parametrize(("num", "width", "n"), [(300, 7, 50), (4097, 33, 3001), (1, 5, 9), (100, 3, 1)])
def test_the_bias_of_weights_that_are_drawn_as_they_are_needed(num: int, width: int, n: int) -> None:
    """To the bit that of the whole of them, in blocks of any size."""
    features = torch.randn(n, width, generator=torch.Generator().manual_seed(1))
    whole = hash_bias(features, draw_weights(num, width, 0.02, 3), "median")
    for size in (2**18, 2**22):
        assert torch.equal(drawn_bias(features, num, 0.02, 3, max_bytes=size), whole)
