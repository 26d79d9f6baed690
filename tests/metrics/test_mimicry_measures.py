"""How closely features are followed: hand-computed angles, lengths and bits, accuracy, chunks."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lshfm.errors import RunFailed
from lshfm.metrics import mimicry
from lshfm.metrics.mimicry import compare, constant_bits, measure

WEIGHTS, BIAS = np.array([[1, 0], [0, 1], [1, 1]], np.float32), np.array([0, 0, -2], np.float32)


def fp32(*rows):
    return np.array(rows, dtype=np.float32)


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def measured(feature_s, feature_t, weights, bias):
    return measure(feature_s, feature_t, compare(feature_s, feature_t, weights, bias))


def test_hand_computed():
    feature_s, feature_t = fp32([3, 0], [0, 2], [-1, 0], [3, 0]), fp32([1, 1], [0, 1], [2, 0], [0, 0])
    found = measured(feature_s, feature_t, WEIGHTS, BIAS)
    assert found["angle"] == pytest.approx((45 + 0 + 180) / 3, abs=1e-9)
    assert found["relative_length"] == pytest.approx((3 / math.sqrt(2) + 2 + 1 / 2) / 3, abs=1e-12)
    # student 101 010 000 101, teacher 110 010 100 000: 1 + 3 + 2 + 1 of 12 agree
    assert found["hash_agreement"] == pytest.approx(100 * 7 / 12)
    assert found["zero_features"] == 1
    assert json.loads(json.dumps(found)) == found


def test_every_image_by_hand():
    feature_s, feature_t = fp32([3, 0], [0, 2], [-1, 0], [3, 0], [0, 0]), fp32([1, 1], [0, 1], [2, 0], [0, 0], [0, 2])
    found = compare(feature_s, feature_t, WEIGHTS, BIAS)
    assert found.keys() == {"angle", "relative_length", "equal_bits"}
    assert {(array.dtype, array.shape) for array in found.values()} == {(np.dtype(np.float64), (5,))}
    np.testing.assert_allclose(found["angle"], [45, 0, 180, np.nan, np.nan], rtol=0, atol=1e-12)
    np.testing.assert_allclose(found["relative_length"], [3 / math.sqrt(2), 2, 1 / 2, np.nan, 0], rtol=1e-15)
    # student 101 010 000 101 000, teacher 110 010 100 000 010
    assert found["equal_bits"].tolist() == [1 / 3, 1, 2 / 3, 1 / 3, 2 / 3]


def test_of_different_widths_every_image_has_nothing():
    found = compare(random(4, 3), random(4, 2), WEIGHTS, BIAS)
    assert all(array.shape == (4,) and np.isnan(array).all() for array in found.values())


@given(st.integers(0, 2**32), st.integers(1, 40), st.sampled_from([1, 16, 2048]))
def test_the_measures_are_the_means_of_the_images(seed, n, functions):
    feature_s, feature_t, weights = random(n, 3, seed=seed), random(n, 3, seed=seed + 1), random(functions, 3, seed=7)
    feature_s[0], feature_t[n // 2] = 0, 0
    bias = random(functions, seed=8)
    compared = compare(feature_s, feature_t, weights, bias)
    found = measure(feature_s, feature_t, compared)
    for name in ("angle", "relative_length"):
        known = compared[name][~np.isnan(compared[name])]
        assert found[name] == (known.mean() if len(known) else None)
    # To the bit, for so many functions (a power of two, as the reference has): shares of them are exact.
    equal = ((feature_s @ weights.T + bias > 0) == (feature_t @ weights.T + bias > 0)).sum()
    assert found["hash_agreement"] == 100 * int(equal) / (n * functions)
    assert found["zero_features"] == len({0, n // 2})


def test_a_zero_student_has_a_length_and_no_angle():
    found = measured(fp32([0, 0], [0, 5]), fp32([0, 2], [1, 0]), WEIGHTS, BIAS)
    assert found["angle"] == pytest.approx(90)
    assert found["relative_length"] == pytest.approx((0 + 5) / 2)
    assert found["zero_features"] == 1


def test_means_over_nothing_are_none():
    found = measured(fp32([0, 0]), fp32([0, 0]), WEIGHTS, BIAS)
    assert found == {"angle": None, "relative_length": None, "hash_agreement": 100, "zero_features": 1}


def test_features_of_different_widths_do_not_compare():
    found = measured(random(4, 3), random(4, 2), WEIGHTS, BIAS)
    assert found == {"angle": None, "relative_length": None, "hash_agreement": None, "zero_features": 0}


@pytest.mark.parametrize("degrees", [1e-6, 1e-3, 30, 90, 150, 180 - 1e-3, 180 - 1e-6])
def test_small_and_straight_angles_are_exact(degrees):
    side = np.float32(math.tan(math.radians(degrees)))
    front = np.float32(1 if degrees < 90 else -1)
    expected = math.degrees(math.atan2(abs(float(side)), float(front)))
    found = measured(fp32([front, abs(side)]), fp32([7, 0]), WEIGHTS, BIAS)["angle"]
    assert abs(found - expected) < 1e-12 * 180
    assert min(found, 180 - found) == pytest.approx(min(degrees, 180 - degrees), rel=1e-6)


@given(st.integers(0, 2**32), st.floats(0.01, 100))
def test_scaling_changes_lengths_alone(seed, scale):
    feature = random(5, 4, seed=seed)
    weights, no_bias = random(6, 4, seed=seed + 1), np.zeros(6, np.float32)
    found = measured(np.float32(scale) * feature, feature, weights, no_bias)
    assert found["angle"] == pytest.approx(0, abs=1e-5)
    assert found["relative_length"] == pytest.approx(scale, rel=1e-6)
    assert measured(feature, feature, weights, no_bias)["hash_agreement"] == 100
    opposite = measured(-feature, feature, weights, no_bias)
    assert (opposite["angle"], opposite["hash_agreement"]) == (180, 0)


@given(st.integers(0, 2**32))
def test_angles_against_the_arc_cosine(seed):
    feature_s, feature_t = random(2, 7, 5, seed=seed)
    s, t = feature_s.astype(np.float64), feature_t.astype(np.float64)
    cosines = (s * t).sum(axis=1) / np.sqrt((s * s).sum(axis=1) * (t * t).sum(axis=1))
    found = measured(feature_s, feature_t, random(3, 5), np.zeros(3, np.float32))
    assert found["angle"] == pytest.approx(np.degrees(np.arccos(cosines)).mean(), abs=1e-5)


def test_hash_agreement_of_random_directions_follows_the_angle():
    """Two vectors at angle a fall on different sides of a random plane with probability a / 180."""
    found = measured(fp32([1, 0]), fp32([1, 1]), random(20_000, 2), np.zeros(20_000, np.float32))
    assert found["hash_agreement"] == pytest.approx(75, abs=5 * 100 * math.sqrt(0.25 * 0.75 / 20_000))


def test_rows_at_a_time_or_all_at_once(monkeypatch):
    feature_s, feature_t, weights = random(23, 4), random(23, 4, seed=1), random(9, 4, seed=2)
    feature_s[7], feature_t[[7, 11]] = 0, 0
    bias = 3 + random(9, seed=3)
    whole, constant = measured(feature_s, feature_t, weights, bias), constant_bits(feature_t, weights, bias)
    for limit in (1, 4 * 9 * 5):  # 1 and 5 rows of bits
        monkeypatch.setattr(mimicry, "BYTES", limit)
        assert measured(feature_s, feature_t, weights, bias) == pytest.approx(whole, rel=1e-12)
        assert constant_bits(feature_t, weights, bias) == constant
    assert 0 < constant < 1


def test_constant_bits_by_hand():
    # bits 110, 010, 010: the second is always 1, the third always 0
    features = fp32([1, 0.5], [-1, 1], [0, 2])
    assert constant_bits(features, WEIGHTS, BIAS) == pytest.approx(2 / 3)
    assert constant_bits(features[:1], WEIGHTS, BIAS) == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("whose", ["student", "teacher"])
def test_features_that_are_not_finite_are_refused(whose, value):
    pair = {"student": random(4, 2), "teacher": random(4, 2, seed=1)}
    pair[whose][2:, 1] = value
    with pytest.raises(RunFailed, match=f"the {whose}'s features are not finite for 2 of 4 images: the first is row 2"):
        measured(pair["student"], pair["teacher"], WEIGHTS, BIAS)
