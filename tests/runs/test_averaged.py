"""The mean of the last epochs' weights where there is none to be had, and what it takes on the disk."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lshfm.engine.average import WeightAverage
from lshfm.engine.state import State
from lshfm.runs.averaged import averaged
from lshfm.runs.last import _checkpoint_bytes
from lshfm.runs.memory import TooLargeToEvaluate
from tests.runs.test_last import made

SETTINGS: Any = SimpleNamespace(average=2, epochs=9, average_bn="mean", eval_batch_size=7)


def ended(epochs: int) -> State:
    """A run that was to average the last two of nine epochs."""
    state = made(1)
    state.average = WeightAverage(2, 9)
    for _ in range(epochs):
        state.end_epoch(None)
    return state


def full(_network: Any) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory")


def test_a_run_that_ends_before_its_last_epochs_says_that_it_has_no_mean(tmp_path: Path, said: list[str]) -> None:
    assert averaged(tmp_path, ended(3), SETTINGS, [], full, dict) is None  # type: ignore[arg-type]
    assert said == [
        "average=2: there is no mean of weights, as the run ended after epoch 3, before the last 2 of 9 epochs"
    ]


def test_memory_that_is_too_small_for_its_evaluation_is_said_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(TooLargeToEvaluate, match="eval_batch_size=7"):
        averaged(tmp_path, ended(9), SETTINGS, [], full, dict)  # type: ignore[arg-type]


def test_its_room_on_the_disk_is_announced(tmp_path: Path) -> None:
    state, plain = ended(9), made(1)
    assert state.average
    torch.save(state.average.state_dict(), tmp_path / "sums")
    sums, weights = state.average.bytes_of(state.model), sum(t.nbytes for t in state.model.state_dict().values())
    assert (tmp_path / "sums").stat().st_size == pytest.approx(sums, rel=0.1)
    constants = sum(value.nbytes for value in state.constants.values() if isinstance(value, torch.Tensor))
    assert _checkpoint_bytes(state, 3) - _checkpoint_bytes(plain, 3) == 4 * sums + weights + constants
