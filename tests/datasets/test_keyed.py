import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lshfm.datasets.keyed import Stream, _mix, bits, draws, permutation, uniform

WORDS = st.integers(-(2**63), 2**63 - 1)


def test_mix_is_splitmix64() -> None:
    """The first outputs of the reference generator from seed 1234567."""
    states = np.uint64(1234567) + np.arange(1, 6, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    assert _mix(states).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_values_never_change() -> None:
    """Every result ever reported depends on these."""
    assert bits(0, 0, [0, 1, 2], Stream.SHUFFLE).tolist() == [
        2391539541053276776,
        3048674281419798293,
        5729490520049822839,
    ]
    assert uniform(7, 3, [0, 4951], Stream.FLIP).tolist() == [0.5100816919505269, 0.7083257677004118]
    assert permutation(7, 3, 10).tolist() == [4, 7, 0, 6, 2, 1, 9, 3, 5, 8]
    assert permutation(0, 0, 10, Stream.HOLDOUT).tolist() == [2, 1, 9, 5, 6, 3, 4, 8, 0, 7]


def test_streams_are_pinned() -> None:
    assert {s.name: s.value for s in Stream} == {
        "SHUFFLE": 0,
        "HOLDOUT": 1,
        "FLIP": 2,
        "BRIGHTNESS": 3,
        "CONTRAST": 4,
        "SATURATION": 5,
        "JITTER_ORDER": 6,
        "RANK": 7,
        "POOL": 8,
        "MEMBER": 9,
        "CROP_TOP": 10,
        "CROP_LEFT": 11,
        "MIX": 12,
        "SIZE": 20,
        "SAMPLES": 21,
        "RESIZED_CROP": 1000,  # and the 39 after it
        "RANDAUGMENT": 2000,
    }


@pytest.mark.parametrize("stream", Stream)
@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (0, 1), (1, 0), (123456789, 59)])
def test_uniform_is_uniform(seed: int, epoch: int, stream: int) -> None:
    n, bins = 20_000, 100
    counts, _ = np.histogram(uniform(seed, epoch, np.arange(n), stream), bins, (0, 1))
    chi_square = ((counts - n / bins) ** 2 / (n / bins)).sum()
    assert 50 < chi_square < 170  # 99 degrees of freedom: outside with probability 1e-5


def test_low_bits_are_uniform() -> None:
    counts = np.bincount((bits(0, 0, np.arange(25_600), 0) & np.uint64(255)).astype(int), minlength=256)
    assert 160 < ((counts - 100) ** 2 / 100).sum() < 370  # 255 degrees of freedom


def test_seeds_epochs_streams_and_neighbours_are_uncorrelated() -> None:
    index = np.arange(20_000)
    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1), (2, 0, 0), (-1, 0, 0)]
    rows = [uniform(s, e, index, k) for s, e, k in keys]
    rows.append(np.roll(rows[0], 1))
    correlations = np.corrcoef(rows) - np.eye(len(rows))
    assert np.abs(correlations).max() < 4.5 / np.sqrt(len(index))


@given(WORDS, WORDS, st.lists(WORDS, min_size=1, max_size=20))
def test_a_number_depends_on_its_own_index_alone(seed: int, epoch: int, index: list[int]) -> None:
    together = uniform(seed, epoch, np.array(index), Stream.FLIP)
    alone = [uniform(seed, epoch, i, Stream.FLIP)[0] for i in index]
    assert together.tolist() == alone
    assert ((together >= 0) & (together < 1)).all()


@given(st.integers(0, 2**32), st.integers(0, 1000), st.integers(1, 300))
def test_permutation_permutes(seed: int, epoch: int, n: int) -> None:
    order = permutation(seed, epoch, n)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(n))


def test_orders_differ_between_epochs_and_seeds() -> None:
    orders = {tuple(permutation(s, e, 50).tolist()) for s in range(5) for e in range(5)}
    assert len(orders) == 25


def test_first_of_an_order_is_uniform() -> None:
    counts = np.bincount([permutation(0, e, 10)[0] for e in range(5000)], minlength=10)
    assert ((counts - 500) ** 2 / 500).sum() < 33  # 9 degrees of freedom


POOLS = [np.array([4]), np.array([0, 1, 2, 3]), np.array([1, 4])]


def test_each_pool_and_each_of_its_members_is_as_likely() -> None:
    found = np.bincount(draws(3, 5, 12_000, POOLS), minlength=5)
    expected = np.array([1000, 1000 + 2000, 1000, 1000, 4000 + 2000])
    assert ((found - expected) ** 2 / expected).sum() < 24  # 4 degrees of freedom: above with probability 1e-4


def test_draws_depend_on_seed_and_epoch_alone() -> None:
    assert draws(3, 5, 100, POOLS).tolist() == draws(3, 5, 100, POOLS).tolist()
    assert len({tuple(draws(s, e, 50, POOLS).tolist()) for s in range(3) for e in range(3)}) == 9
    assert draws(3, 5, 40, POOLS).tolist() == draws(3, 5, 100, POOLS).tolist()[:40]
    assert draws(0, 0, 6, POOLS).tolist() == [2, 4, 4, 1, 1, 1]  # no number of these may ever change
