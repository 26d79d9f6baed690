"""The label loss of an evaluation: exact, whatever the batches, the threads and the ranks."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lshfm.engine.state import Evaluation
from lshfm.losses.classification import ASL, BCE
from lshfm.ranks.group import is_main
from lshfm.tasks.losses import ENTRIES, mean_loss, with_loss
from lshfm.tasks.multilabel import MultiLabel
from lshfm.tasks.task import Arrays
from tests.groups import in_ranks


def drawn(images: int, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    numbers = np.random.default_rng(0)
    logits = numbers.normal(size=(images, classes)).astype(np.float32)
    return logits, numbers.choice([-1, 0, 1], (images, classes)).astype(np.int8)


def test_by_hand() -> None:
    logits = np.zeros((2, 2), np.float32)
    labels = np.array([[1, -1], [0, 1]], np.int8)
    assert mean_loss(BCE(), logits, labels) == pytest.approx(math.log(2), abs=1e-7)
    assert mean_loss(ASL(0.0, 0.0, 0.0, "mean"), logits, labels) == pytest.approx(math.log(2), abs=1e-6)
    assert mean_loss(ASL(0.0, 0.0, 0.0, "sum"), logits, labels) == pytest.approx(2 * math.log(2), abs=1e-6)


@pytest.mark.parametrize("loss", [BCE(), ASL(), ASL(reduction="sum")], ids=["bce", "asl", "sum"])
@pytest.mark.parametrize("images", [1, 5, ENTRIES // 3 + 1])
def test_the_mean_over_images(loss: nn.Module, images: int) -> None:
    logits, labels = drawn(images)
    each = [float(loss(torch.tensor(o[None]), torch.tensor(t[None]))) for o, t in zip(logits, labels, strict=True)]
    assert mean_loss(loss, logits, labels) == pytest.approx(sum(each) / images, rel=1e-6)


def test_the_same_bits_with_any_number_of_threads() -> None:
    logits, labels = drawn(3000, 40)
    threads = torch.get_num_threads()
    try:
        found = set()
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            found.add(mean_loss(ASL(), logits, labels))
    finally:
        torch.set_num_threads(threads)
    assert len(found) == 1


def test_without_images_or_a_finite_loss_there_is_none() -> None:
    class Endless(nn.Module):
        def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
            return logits.sum() * math.inf

    assert mean_loss(BCE(), *drawn(0)) is None
    assert mean_loss(Endless(), *drawn(2)) is None


def test_no_gradients_are_kept() -> None:
    class Weighted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
            loss = self.weight * logits.mean()
            assert not loss.requires_grad
            return loss

    assert mean_loss(Weighted(), np.full((2, 3), 0.5, np.float32), np.ones((2, 3), np.int8)) == 0.5


def _evaluated() -> tuple[Evaluation, Arrays]:
    logits, labels = drawn(7)

    def evaluate(_network: nn.Module) -> tuple[Evaluation, Arrays]:
        return Evaluation("mAP", 1.0, {"mAP": 1.0}, {"angle": 2.0}), {
            "logits": logits,
            "targets": labels,
        } if is_main() else {}

    return with_loss(evaluate, MultiLabel(), BCE())(nn.Identity())


def test_every_rank_is_told_what_rank_0_has_found() -> None:
    expected = mean_loss(BCE(), *drawn(7))
    for evaluation, _ in in_ranks(2, _evaluated):
        assert evaluation == Evaluation("mAP", 1.0, {"mAP": 1.0}, {"angle": 2.0}, expected)
    alone, arrays = _evaluated()
    assert (alone.loss, set(arrays)) == (expected, {"logits", "targets"})


def test_a_task_that_tells_no_loss_has_none() -> None:
    class Silent(MultiLabel):
        def mean_loss(self, loss: nn.Module, arrays: Arrays) -> float | None:
            return super(MultiLabel, self).mean_loss(loss, arrays)

    def evaluate(_network: nn.Module) -> tuple[Evaluation, Any]:
        return Evaluation("mAP", 1.0, {}), {}

    assert with_loss(evaluate, Silent(), BCE())(nn.Identity())[0].loss is None
