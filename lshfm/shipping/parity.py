"""An exported network beside the one it was made from, on real images: outputs, decisions, score, speed."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lshfm.errors import RunFailed
from lshfm.metrics.decisions import EVEN, Decisions
from lshfm.tasks.task import Arrays, Evaluate

# The largest difference that is let pass, as a share of the largest logit (at least 1), or of a probability.
TOLERANCES = {"fp32": 1e-3, "fp16": 2e-2, "bf16": 1.5e-1}
BENCH_SECONDS, BENCH_CALLS = 2.0, 5  # at least


class Compared(ABC):
    """An exported network beside the original on the same images: what differs, and the score of both."""

    images: int
    metric: str
    score_before: float | None  # None where the images have no labels
    score_after: float | None

    @property
    @abstractmethod
    def difference(self) -> str:
        """A clause on what differs."""

    @property
    def words(self) -> str:
        """A line for the log."""
        scores = (self.score_before, self.score_after)
        text = f"{self.images} images: {self.difference}"
        return text if None in scores else f"{text}, {self.metric} {scores[0]:.2f} before and {scores[1]:.2f} after"

    @property
    def drop(self) -> float | None:
        """By how much the score falls; None where there is none."""
        return None if self.score_before is None or self.score_after is None else self.score_before - self.score_after


@dataclass(frozen=True)
class Parity(Compared):
    """How an exported network compares with the original on the same images."""

    images: int
    output: str  # what is compared: logits or probabilities
    largest_difference: float
    largest_logit: float  # of the original
    equal_decisions: float  # percent of all labels, yes or no; of the likeliest classes where one is chosen
    metric: str
    score_before: float | None  # None where the images have no labels
    score_after: float | None

    @property
    def difference(self) -> str:
        """A clause on what differs."""
        return (
            f"{self.output} differ by at most {self.largest_difference:.3g}, "
            f"{self.equal_decisions:.2f} % of decisions are equal"
        )

    def require(self, tolerance: float) -> None:
        """Raise RunFailed if outputs differ by more than `tolerance` allows."""
        scale = max(1.0, self.largest_logit) if self.output == "logits" else 1.0
        if not self.largest_difference <= tolerance * scale:
            raise RunFailed(f"the exported network is not the same, and is not kept: {self.words}")

    def record(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def compare(
    evaluate: Evaluate, original: nn.Module, exported: nn.Module, decisions: Decisions, *, output: str
) -> Parity:
    """Both networks on the same images. output: what the exported file gives, logits or probabilities."""
    before, mine = evaluate(original)
    after, theirs = evaluate(exported)
    return Parity(
        len(mine["logits"]), output, *_differences(mine, theirs, decisions, output), before.name, before.score,
        after.score,
    )  # fmt: skip


def _differences(mine: Arrays, theirs: Arrays, decisions: Decisions, output: str) -> tuple[float, float, float]:
    before, after = mine["logits"].astype(np.float64), theirs["logits"].astype(np.float64)
    p_before, p_after = decisions.probabilities(before), decisions.probabilities(after)
    gap = np.abs(before - after) if output == "logits" else np.abs(p_before - p_after)
    equal = np.mean(_decided(p_before, decisions) == _decided(p_after, decisions))
    return float(gap.max()), float(np.abs(before).max()), float(100 * equal)


def _decided(probabilities: NDArray[np.float64], decisions: Decisions) -> NDArray[Any]:
    if decisions.activation == "softmax":
        likeliest: NDArray[Any] = probabilities.argmax(1)
        return likeliest
    limits = EVEN if decisions.thresholds is None else np.array(decisions.thresholds)
    return np.asarray(probabilities >= limits)


def images_per_second(run: Callable[[], object], images: int) -> float:
    """The best of several calls, each of so many images, after one to warm up."""
    run()
    seconds, until = list[float](), time.perf_counter() + BENCH_SECONDS
    while len(seconds) < BENCH_CALLS or time.perf_counter() < until:
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return images / min(seconds)


@torch.inference_mode()
def bench(original: nn.Module, exported: nn.Module, size: int, runtime: str) -> dict[str, float]:
    """Images per second on this machine's CPU, one at a time and sixteen, of the original and the exported network.

    runtime: what runs the exported one.
    """
    found = {}
    for batch in (1, 16):
        images = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0))
        for name, network in (("PyTorch", original), (runtime, exported)):
            found[f"{name}, {batch} at a time"] = round(images_per_second(lambda n=network, i=images: n(i), batch), 1)  # type: ignore[misc]
    return found
