"""When a run ends before its last epoch, by its scores."""

from typing import Any

import pytest

from lshfm.engine.state import Evaluation
from lshfm.engine.stop import never, without_progress
from tests.engine.test_training_loop import make, run


@pytest.mark.parametrize(
    ("scores", "patience", "done"),
    [
        ([1.0, 2.0, 3.0, 4.0], 1, 4),
        ([1.0, 1.0, 3.0, 4.0], 1, 2),  # as good is no better
        ([1.0, 0.5, 0.7, 4.0], 2, 3),
        ([1.0, 0.5, 2.0, 1.0], 2, 4),
        ([None, None, 1.0, 1.0], 2, 2),  # undefined: none is better
        ([None, 1.0, 1.0, 1.0], 2, 4),
    ],
)
def test_the_loop_ends_after_so_many_epochs_without_a_better_score(
    scores: list[float | None], patience: int, done: int
) -> None:
    state = make()
    coming = iter(scores)

    def evaluate(_: Any) -> Evaluation:
        return Evaluation("mAP", next(coming), {})

    run(state, evaluate=evaluate, is_enough=without_progress(patience))
    assert state.epoch == done
    assert run(state, evaluate=evaluate, is_enough=without_progress(patience)).calls == []  # nor does it go on again


def test_else_it_never_ends() -> None:
    state = make()
    for _ in range(9):
        state.end_epoch(Evaluation("mAP", 1.0, {}))
    assert not never(state)
