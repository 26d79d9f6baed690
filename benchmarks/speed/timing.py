"""Times of arms on the same work, interleaved so that what else the machine does meets all of them alike."""

import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import torch

Arm = Callable[[], object]  # one step


def synchronise() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds_of(work: Arm, steps: int = 1) -> float:
    """Seconds that a step takes, over so many."""
    synchronise()
    start = time.perf_counter()
    for _ in range(steps):
        work()
    synchronise()
    return (time.perf_counter() - start) / steps


def interleaved(
    arms: Mapping[str, Arm], *, rounds: int, steps: int, warm_up: int = 2, limit: float = 150.0
) -> dict[str, list[float]]:
    """Seconds a step of each arm in every round; rounds end early once `limit` seconds are over, but for the first.

    Arms for which the GPU's memory is too small beside the others are left out.
    """
    arms = {name: arm for name, arm in arms.items() if fits(partial(_repeat, arm, warm_up))}
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    began = time.monotonic()
    for number in range(rounds):
        if number and time.monotonic() - began > limit:
            break
        for name, arm in arms.items():
            seconds[name].append(seconds_of(arm, steps))
    return seconds


def _repeat(arm: Arm, times: int) -> None:
    for _ in range(times):
        arm()


def fits(work: Callable[[], object]) -> bool:
    """Do the work; whether the GPU's memory was enough for it."""
    with suppress(torch.OutOfMemoryError):
        work()
        return True
    torch.cuda.empty_cache()  # of what the error held till here
    return False


def summary(seconds: list[float], images: int) -> dict[str, Any]:
    """Images a second: the median over rounds, the slowest and the fastest."""
    rates = sorted(images / each for each in seconds)
    return {"images_per_second": rounded(statistics.median(rates)), "spread": [rounded(rates[0]), rounded(rates[-1])],
            "rounds": len(rates)}  # fmt: skip


def rounded(value: float, digits: int = 4) -> float:
    """To so many significant digits."""
    return float(f"{value:.{digits}g}")
