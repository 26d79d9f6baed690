"""How closely a student's features follow its teacher's, over the images of a whole split.

Features (n, D) and the hash functions' weights (N, D) and bias (N,) are fp32. Rows are taken some at a time, so that
memory stays at about BYTES beside the inputs.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lshfm.errors import RunFailed

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

BYTES = 64 * 2**20


def measure(feature_s: Floats, feature_t: Floats, weights: Floats, bias: Floats) -> dict[str, float | int | None]:
    """How student features (n, D) differ from teacher features (n, D), as plain values that JSON can hold.

    `angle`: mean angle between the two vectors of an image, in degrees; `relative_length`: mean of |f_s| / |f_t|;
    `hash_agreement`: percentage of the n*N bits [W f + b > 0] that are the same for both; `zero_features`: the
    images where either vector is zero. These have no angle, and no relative length where it is the teacher's; a mean
    over no images is None. Where the widths differ nothing compares: all but `zero_features` are None.

    Raises RunFailed for features that are not finite.
    """
    assert len(feature_s) == len(feature_t) > 0
    _refuse_non_finite("student", feature_s)
    _refuse_non_finite("teacher", feature_t)
    zero_features = int(np.count_nonzero(~(feature_s.any(axis=1) & feature_t.any(axis=1))))
    if feature_s.shape != feature_t.shape:
        return {"angle": None, "relative_length": None, "hash_agreement": None, "zero_features": zero_features}
    compared = [_compare(feature_s[rows], feature_t[rows]) for rows in _chunks(len(feature_s), feature_s.shape[1] * 8)]
    angles, ratios = (np.concatenate(column) for column in zip(*compared, strict=True))
    return {
        "angle": _mean(angles),
        "relative_length": _mean(ratios),
        "hash_agreement": _agreement(feature_s, feature_t, weights, bias),
        "zero_features": zero_features,
    }


def constant_bits(feature_t: Floats, weights: Floats, bias: Floats) -> float:
    """Share, in [0, 1], of the N hash functions that give the same bit for every one of the n features (n, D).

    Near 1 for a teacher whose features hardly vary: there is nothing to mimic.
    """
    assert len(feature_t)
    ones = sum(bits.sum(axis=0) for bits in _bits(feature_t, weights, bias))
    return float(np.mean((ones == 0) | (ones == len(feature_t))))


def _compare(feature_s: Floats, feature_t: Floats) -> tuple[Doubles, Doubles]:
    """Angles in degrees and relative lengths, of the rows that have one."""
    f_s, f_t = feature_s.astype(np.float64), feature_t.astype(np.float64)
    length_s, length_t = (np.linalg.norm(f, axis=1, keepdims=True) for f in (f_s, f_t))
    ratios = length_s[length_t > 0] / length_t[length_t > 0]
    both = ((length_s > 0) & (length_t > 0))[:, 0]
    u, v = f_s[both] / length_s[both], f_t[both] / length_t[both]
    # Kahan's form: the arc cosine of a cosine loses half of the digits near 0 and 180 degrees.
    angles = 2 * np.arctan2(np.linalg.norm(u - v, axis=1), np.linalg.norm(u + v, axis=1))
    return np.degrees(angles), ratios


def _agreement(feature_s: Floats, feature_t: Floats, weights: Floats, bias: Floats) -> float:
    pairs = zip(_bits(feature_s, weights, bias), _bits(feature_t, weights, bias), strict=True)
    equal = sum(np.count_nonzero(bits_s == bits_t) for bits_s, bits_t in pairs)
    return float(100 * equal / (len(feature_s) * len(weights)))


def _bits(features: Floats, weights: Floats, bias: Floats) -> Iterator[NDArray[np.bool_]]:
    """[W f + b > 0] of some rows at a time: (rows, N)."""
    for rows in _chunks(len(features), len(weights) * 4):
        yield features[rows] @ weights.T + bias > 0


def _chunks(num: int, row_bytes: int) -> Iterator[slice]:
    size = max(BYTES // row_bytes, 1)
    return (slice(start, start + size) for start in range(0, num, size))


def _mean(values: Doubles) -> float | None:
    return float(values.mean()) if len(values) else None


def _refuse_non_finite(whose: str, features: NDArray[np.floating[Any]]) -> None:
    rows = np.flatnonzero(~(np.isfinite(features.min(axis=1)) & np.isfinite(features.max(axis=1))))
    if len(rows):
        raise RunFailed(
            f"the {whose}'s features are not finite for {len(rows)} of {len(features)} images: the first is row "
            f"{rows[0]} (counted from 0). Use a checkpoint from before they diverged, or train with a lower lr."
        )
