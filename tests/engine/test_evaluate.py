"""Outputs of a whole split, whatever its batches look like."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from lshfm.datasets.cutting import Share
from lshfm.datasets.loader import Batch
from lshfm.engine.evaluate import Predictions, _Column, predict
from lshfm.models.cifar import cifar_classifier
from lshfm.ranks.group import num_ranks, rank
from tests.groups import in_ranks

N = 7
IMAGES = torch.linspace(-2, 2, N * 12).reshape(N, 3, 2, 2)
LABELS = (torch.arange(N * 2).reshape(N, 2) % 3 - 1).to(torch.int8)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.dropout, self.linear = nn.Dropout(0.5), nn.Linear(12, 2)
        self.dtypes: set[torch.dtype] = set()

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        feature = self.dropout(images.flatten(1))
        logits = self.linear(feature)
        self.dtypes.add(logits.dtype)
        return feature, logits


def batches(*indices: list[int]) -> Iterator[Batch]:
    return (Batch(torch.tensor(index), IMAGES[index], LABELS[index], 0) for index in indices)


def expected() -> np.ndarray:
    network = Network()
    return network.linear(IMAGES.flatten(1)).detach().numpy()


@pytest.mark.parametrize(
    "indices",
    [
        ([0, 1, 2], [3, 4, 5], [6]),
        ([6, 0, 3], [5, 1], [4, 2]),  # in another order
        ([0, 1, 2, 3], [4, 5, 6, 0]),  # padded with a sample that was there
        ([0, 4, 2, 6], [1, 5, 3, 0], [0, 1, 2, 3], [4, 4, 4, 4]),
    ],
)
def test_every_sample_counts_once_and_in_order(indices: tuple[list[int], ...]) -> None:
    predictions = predict(Network(), batches(*indices))
    assert predictions.index.tolist() == list(range(N))
    np.testing.assert_allclose(predictions.logits, expected(), atol=1e-6)
    np.testing.assert_array_equal(predictions.labels, LABELS.numpy())
    assert (predictions.logits.dtype, predictions.labels.dtype) == (np.float32, np.int8)


def test_a_part_of_a_split_keeps_its_numbers() -> None:
    predictions = predict(Network(), batches([5, 2]))
    assert predictions.index.tolist() == [2, 5]
    np.testing.assert_allclose(predictions.logits, expected()[[2, 5]], atol=1e-6)


def test_bf16_logits_come_back_as_fp32() -> None:
    network = Network()
    predictions = predict(network, batches([0, 1, 2], [3, 4, 5, 6]), precision="bf16")
    assert network.dtypes == {torch.bfloat16}
    assert predictions.logits.dtype == np.float32
    assert np.array_equal(predictions.logits, torch.from_numpy(predictions.logits).bfloat16().float().numpy())
    np.testing.assert_allclose(predictions.logits, expected(), atol=0.05)


def test_the_network_is_evaluated_without_gradients_and_batches_are_counted() -> None:
    network, told = Network().train(), []
    predict(network, batches([0], [1], [2]), report=told.append)
    assert not network.training
    assert network.linear.weight.grad is None
    assert told == [1, 2, 3]


def _predicted(size: int) -> Predictions | None:
    """Of a network whose bits depend on what else is in a batch."""
    torch.manual_seed(0)
    network = cifar_classifier("resnet8", 2)
    images = torch.nn.functional.interpolate(IMAGES, scale_factor=8.0)
    own = Share(rank(), num_ranks()).among(np.array_split(np.arange(N), range(size, N, size)))
    return predict(network, (Batch(torch.from_numpy(i), images[i], LABELS[i], 0) for i in own), features=True)


@pytest.mark.parametrize("size", [2, 4])  # four batches, and two, of which the last is smaller
def test_any_number_of_ranks_gives_the_same_bits(size: int) -> None:
    (alone,) = in_ranks(1, _predicted, size)
    assert alone.index.tolist() == list(range(N))
    assert alone.logits.std(axis=0).min() > 0
    for ranks in (2, 3):
        together, *others = in_ranks(ranks, _predicted, size)
        assert others == [None] * (ranks - 1)
        for name in ("index", "logits", "labels", "features"):
            np.testing.assert_array_equal(getattr(together, name), getattr(alone, name), strict=True)


def test_memory_holds_what_is_collected_once() -> None:
    """A column grows in place, a step at a time, and ends as long as its rows are."""
    column, rows = _Column(np.zeros((0, 3), np.float32)), np.arange(30, dtype=np.float32).reshape(10, 3)
    column.STEP = 4 * 12  # type: ignore[misc]
    for start in range(0, 10, 2):
        column.add(rows[start : start + 2])
        assert len(column._rows) <= start + 2 + 4
    assert np.array_equal(column.whole(), rows)
