"""Random numbers looked up by key instead of drawn from a stream.

A number depends on (seed, epoch, stream, sample index) alone, so a view of an image is the same whatever
batch, rank or resumed run asks for it. The mixing function is SplitMix64's (Steele, Lea, Flood
2014): integers modulo 2^64, equal on every platform and in every version of numpy.
"""

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class Stream(IntEnum):
    """The purpose of a random number. Values are part of every result: never reuse or renumber them."""

    SHUFFLE = 0
    HOLDOUT = 1
    FLIP = 2
    BRIGHTNESS = 3
    CONTRAST = 4
    SATURATION = 5
    JITTER_ORDER = 6
    RANK = 7
    POOL = 8
    MEMBER = 9
    CROP_TOP = 10
    CROP_LEFT = 11
    MIX = 12
    SIZE = 20
    SAMPLES = 21
    RESIZED_CROP = 1000  # and 39 more
    RANDAUGMENT = 2000  # and two for each operation


def bits(seed: int, epoch: int, index: ArrayLike, stream: ArrayLike) -> NDArray[np.uint64]:
    """64 random bits for every index, uint64 (n,); or for every one of several streams, where there is one index."""
    state = np.zeros(1, np.uint64)
    for part in (seed, epoch, stream, index):
        state = _mix((state ^ _as_words(part)) + _GOLDEN)
    return state


def uniform(seed: int, epoch: int, index: ArrayLike, stream: ArrayLike) -> NDArray[np.float64]:
    """Float64 (n,) in [0, 1), multiples of 2^-53."""
    return (bits(seed, epoch, index, stream) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permutation(seed: int, epoch: int, n: int, stream: int = Stream.SHUFFLE) -> NDArray[np.int64]:
    """A random permutation of 0..n-1, int64 (n,)."""
    return np.argsort(bits(seed, epoch, np.arange(n), stream), kind="stable")


def draws(seed: int, epoch: int, n: int, pools: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """int64 (n,): each a random member of a random one of `pools`, none of which is empty; with replacement."""
    numbers, sizes = np.arange(n), np.array([len(pool) for pool in pools])
    pool = (uniform(seed, epoch, numbers, Stream.POOL) * len(pools)).astype(np.int64)
    member = (uniform(seed, epoch, numbers, Stream.MEMBER) * sizes[pool]).astype(np.int64)
    drawn: NDArray[np.int64] = np.concatenate(pools)[(np.cumsum(sizes) - sizes)[pool] + member]
    return drawn


def _as_words(part: ArrayLike) -> NDArray[np.uint64]:
    """Part of a key as uint64 (n,); an array even of one number, as numpy's scalars warn when they wrap around."""
    return np.atleast_1d(np.asarray(part)).astype(np.uint64)


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
