"""The learning rate at given times, worked out by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import OneCycleLR

from lshfm.engine.schedule import learning_rate, one_cycle


@pytest.mark.parametrize(
    ("t", "rate"),
    [(0, 1.0), (15, 0.8535533905932737), (30, 0.5), (45, 0.14644660940672627), (60, 0.0), (61, 0.0), (90, 0.0)],
)
def test_cosine(t: float, rate: float) -> None:
    assert learning_rate(1.0, cosine_epochs=60)(t) == pytest.approx(rate, abs=1e-15)


def test_a_cosine_longer_than_the_run_ends_above_zero() -> None:
    assert learning_rate(0.1, cosine_epochs=20)(10) == pytest.approx(0.05)


@pytest.mark.parametrize(("t", "rate"), [(0, 0.01), (0.5, 0.0325), (1, 0.055), (1.999, 0.099955), (2, 0.1), (9, 0.1)])
def test_warm_up_is_linear_and_then_over(t: float, rate: float) -> None:
    assert learning_rate(0.1, warmup=2, initial_lr=0.01)(t) == pytest.approx(rate, rel=1e-12)


@pytest.mark.parametrize(
    ("t", "rate"), [(0, 1.0), (2.999, 1.0), (3, 0.1), (5.999, 0.1), (6, 0.01), (60, 0.01), (math.nextafter(3, 0), 1.0)]
)
def test_steps_count_from_their_epoch_on(t: float, rate: float) -> None:
    assert learning_rate(1.0, steps=[6, 3])(t) == pytest.approx(rate, rel=1e-12)


def test_the_cosine_is_not_shifted_by_the_warm_up() -> None:
    with_warm_up = learning_rate(1.0, cosine_epochs=10, warmup=5)
    assert with_warm_up(5) == learning_rate(1.0, cosine_epochs=10)(5) == pytest.approx(0.5)
    assert with_warm_up(2.5) == pytest.approx(0.5 * 0.5 * (1 + math.cos(math.pi / 4)))


def test_all_three_multiply() -> None:
    at = learning_rate(0.4, cosine_epochs=8, warmup=4, initial_lr=0.2, steps=[1, 2])
    assert at(2) == pytest.approx(0.3 * 0.5 * (1 + math.cos(math.pi / 4)) / 100, rel=1e-12)


def test_constant_without_any() -> None:
    assert [learning_rate(0.3)(t) for t in (0, 0.5, 1000)] == [0.3] * 3


times = st.floats(0, 1000)
rates = st.floats(0, 100)


@given(rates, times, st.floats(0, 1000), st.lists(times, max_size=5), times, rates)
def test_never_negative_and_never_above_both_rates(
    lr: float, t: float, cosine_epochs: float, steps: list[float], warmup: float, initial_lr: float
) -> None:
    rate = learning_rate(lr, cosine_epochs=cosine_epochs, steps=steps, warmup=warmup, initial_lr=initial_lr)(t)
    assert type(rate) is float
    assert 0 <= rate <= max(lr, initial_lr) * (1 + 1e-12)


@given(rates, times, st.floats(0, 1), st.floats(0.5, 1000), st.floats(0.5, 1000), rates)
def test_continuous_but_for_its_steps(
    lr: float, t: float, later: float, cosine_epochs: float, warmup: float, initial_lr: float
) -> None:
    """Two moments differ by no more than the steepest slope of warm-up and cosine allows."""
    at = learning_rate(lr, cosine_epochs=cosine_epochs, warmup=warmup, initial_lr=initial_lr)
    slope = abs(lr - initial_lr) / warmup + max(lr, initial_lr) * math.pi / 2 / cosine_epochs
    assert abs(at(t + later) - at(t)) <= slope * later + 1e-9


@given(rates, times, st.floats(0, 1000), st.lists(times, max_size=5))
def test_steps_only_divide(lr: float, t: float, cosine_epochs: float, steps: list[float]) -> None:
    whole = learning_rate(lr, cosine_epochs=cosine_epochs)(t)
    passed = len([step for step in steps if step <= t])
    assert learning_rate(lr, cosine_epochs=cosine_epochs, steps=steps)(t) == pytest.approx(whole / 10**passed)


@pytest.mark.parametrize(("epochs", "steps"), [(1, 10), (5, 7), (20, 3)])
def test_one_cycle_is_torchs(epochs: int, steps: int) -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.3)
    theirs = OneCycleLR(optimizer, max_lr=0.3, total_steps=epochs * steps, cycle_momentum=False)
    ours = one_cycle(0.3, epochs=epochs, steps=steps)
    for step in range(epochs * steps):
        assert ours(step // steps + step % steps / steps) == pytest.approx(theirs.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        if step < epochs * steps - 1:
            theirs.step()


@pytest.mark.parametrize(("epochs", "steps"), [(1, 1), (1, 2), (1, 3), (10, 1)])
def test_one_cycle_of_a_few_steps_stays_between_its_ends(epochs: int, steps: int) -> None:
    at = one_cycle(0.3, epochs=epochs, steps=steps)
    assert all(0.3 / 250_000 <= at(step / steps) <= 0.3 for step in range(epochs * steps))
