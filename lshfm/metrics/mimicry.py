"""How closely a student's features follow its teacher's, over the images of a whole split.

Features (n, D) and the hash functions' weights (N, D) and bias (N,) are fp32. Work goes in chunks of rows that take
about BYTES of memory beside the inputs.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lshfm.errors import RunFailed

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

BYTES = 64 * 2**20


def compare(feature_s: Floats, feature_t: Floats, weights: Floats, bias: Floats) -> dict[str, Doubles]:
    """How student features (n, D) differ from teacher features (n, D), a number (n,) for each image.

    `angle`: between its two vectors, in degrees; `relative_length`: |f_s| / |f_t|; `equal_bits`: share, in [0, 1], of
    the N bits [W f + b > 0] that are the same for both. A zero vector has no angle, and no relative length where it is
    the teacher's: NaN. Nothing compares where the widths differ: all are NaN.

    Raises RunFailed for features that are not finite.
    """
    assert len(feature_s) == len(feature_t) > 0
    _refuse_non_finite("student", feature_s)
    _refuse_non_finite("teacher", feature_t)
    if feature_s.shape != feature_t.shape:
        return {name: np.full(len(feature_s), np.nan) for name in ("angle", "relative_length", "equal_bits")}
    compared = [_compare(feature_s[rows], feature_t[rows]) for rows in _chunks(len(feature_s), feature_s.shape[1] * 8)]
    angles, ratios = (np.concatenate(column) for column in zip(*compared, strict=True))
    equal = _equal_bits(feature_s, feature_t, weights, bias) / len(weights)
    return {"angle": angles, "relative_length": ratios, "equal_bits": equal}


def measure(feature_s: Floats, feature_t: Floats, compared: dict[str, Doubles]) -> dict[str, float | int | None]:
    """Means over the images of what `compare` gave, as plain values that JSON can hold.

    `angle` and `relative_length`: over the images that have them, None if there are none; `hash_agreement`: the
    percentage of equal bits; `zero_features`: the images where either vector is zero.
    """
    equal = compared["equal_bits"]
    return {
        "angle": _mean(compared["angle"]),
        "relative_length": _mean(compared["relative_length"]),
        "hash_agreement": None if np.isnan(equal).any() else float(100 * equal.sum() / len(equal)),
        "zero_features": int(np.count_nonzero(~(feature_s.any(axis=1) & feature_t.any(axis=1)))),
    }


def own_medians_agreement(feature_s: Floats, feature_t: Floats, weights: Floats) -> float | None:
    """Percentage of equal bits where each network's features (n, D) are hashed with their own medians.

    The bits of both are [W f > median of W f over the n images], so that an offset or a positive factor of either's
    features changes none, unlike `hash_agreement`'s. None where the widths differ.
    """
    if feature_s.shape != feature_t.shape:
        return None
    equal = 0
    for functions in _chunks(len(weights), 2 * len(feature_s) * 4):
        bits_s, bits_t = (_above_median(feature, weights[functions]) for feature in (feature_s, feature_t))
        equal += int(np.count_nonzero(bits_s == bits_t))
    return 100 * equal / (len(weights) * len(feature_s))


def constant_bits(feature_t: Floats, weights: Floats, bias: Floats) -> float:
    """Share, in [0, 1], of the N hash functions that give the same bit for every one of the n features (n, D).

    Near 1 for a teacher whose features hardly vary: there is nothing to mimic.
    """
    assert len(feature_t)
    ones = sum(bits.sum(axis=0) for bits in _bits(feature_t, weights, bias))
    return float(np.mean((ones == 0) | (ones == len(feature_t))))


def _compare(feature_s: Floats, feature_t: Floats) -> tuple[Doubles, Doubles]:
    """Angles in degrees and relative lengths, NaN for the rows that have none."""
    f_s, f_t = feature_s.astype(np.float64), feature_t.astype(np.float64)
    length_s, length_t = (np.linalg.norm(f, axis=1, keepdims=True) for f in (f_s, f_t))
    angles, ratios = np.full((2, len(f_s)), np.nan)
    has_length = (length_t > 0)[:, 0]
    ratios[has_length] = (length_s[has_length] / length_t[has_length])[:, 0]
    both = (length_s > 0)[:, 0] & has_length
    u, v = f_s[both] / length_s[both], f_t[both] / length_t[both]
    # Kahan's form: the arc cosine of a cosine loses half of the digits near 0 and 180 degrees.
    angles[both] = np.degrees(2 * np.arctan2(np.linalg.norm(u - v, axis=1), np.linalg.norm(u + v, axis=1)))
    return angles, ratios


def _equal_bits(feature_s: Floats, feature_t: Floats, weights: Floats, bias: Floats) -> NDArray[np.int64]:
    """How many bits are the same, image by image: (n,)."""
    pairs = zip(_bits(feature_s, weights, bias), _bits(feature_t, weights, bias), strict=True)
    return np.concatenate([np.count_nonzero(bits_s == bits_t, axis=1) for bits_s, bits_t in pairs])


def _bits(features: Floats, weights: Floats, bias: Floats) -> Iterator[NDArray[np.bool_]]:
    """[W f + b > 0] of some rows at a time: (rows, N)."""
    for rows in _chunks(len(features), len(weights) * 4):
        yield features[rows] @ weights.T + bias > 0


def _above_median(features: Floats, weights: Floats) -> NDArray[np.bool_]:
    """Bits (N, n) of some hash functions, from the very numbers that the median is of: no rounding in between."""
    hashed = weights @ features.T
    above: NDArray[np.bool_] = hashed > np.median(hashed, axis=1, keepdims=True)
    return above


def _chunks(num: int, row_bytes: int) -> Iterator[slice]:
    size = max(BYTES // row_bytes, 1)
    return (slice(start, start + size) for start in range(0, num, size))


def _mean(values: Doubles) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def _refuse_non_finite(owner: str, features: NDArray[np.floating[Any]]) -> None:
    rows = np.flatnonzero(~(np.isfinite(features.min(axis=1)) & np.isfinite(features.max(axis=1))))
    if len(rows):
        raise RunFailed(
            f"the {owner}'s features are not finite for {len(rows)} of {len(features)} images: the first is row "
            f"{rows[0]} (counted from 0). Use a checkpoint from before they diverged, or train with a lower lr."
        )
