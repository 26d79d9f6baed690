"""The learning rate as a pure function of time."""

import math
from collections.abc import Callable, Sequence


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
