"""The learning rate as a pure function of time."""

import math
from collections.abc import Callable, Sequence


def one_cycle(lr: float, *, epochs: int, steps: int) -> Callable[[float], float]:
    """A function of t as `learning_rate` gives: once up and down (Smith, Topin 2018, arXiv 1708.07120).

    Half a cosine up from lr / 25 to lr over the first 0.3 of all steps, half a cosine down to lr / 250000 at the last
    one. The momentum stays as it is. steps: of an epoch.
    """
    last = max(epochs * steps - 1, 1)
    peak = 0.3 * epochs * steps - 1

    def at(t: float) -> float:
        step = min(t * steps, last)
        if step <= peak:
            return _eased(lr / 25, lr, step / peak if peak else 1.0)
        return _eased(lr, lr / 250_000, (step - peak) / (last - peak))

    return at


def _eased(start: float, end: float, share: float) -> float:
    """From start to end along half a cosine."""
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))


def learning_rate(
    lr: float,
    *,
    cosine_epochs: float = 0.0,
    steps: Sequence[float] = (),
    warmup: float = 0.0,
    initial_lr: float = 0.0,
) -> Callable[[float], float]:
    """A function of t, the epochs done with fractions (paper's release: set before every step).

    Linear warm-up from `initial_lr` to `lr` over `warmup` epochs, times 0.5 (1 + cos(pi t / cosine_epochs))
    unless `cosine_epochs` is 0 (not shifted by the warm-up), divided by 10 for every entry of `steps` that t
    has reached.
    """

    def at(t: float) -> float:
        rate = initial_lr + (lr - initial_lr) * t / warmup if t < warmup else lr
        if cosine_epochs:
            rate *= 0.5 * (1.0 + math.cos(math.pi * min(t / cosine_epochs, 1.0)))
        return float(rate / 10.0 ** sum(t >= step for step in steps))

    return at
