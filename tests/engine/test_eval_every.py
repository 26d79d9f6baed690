"""eval_every: which epochs are evaluated, when an early stop is judged, what the record says of the others."""

from typing import Any

import pytest

from lshfm.engine.lines import EpochLine, Line, StepLine
from lshfm.engine.loop import is_evaluated
from lshfm.engine.state import Evaluation
from lshfm.engine.stop import without_progress
from lshfm.runs.epochs import EpochTable
from tests.engine.test_training_loop import equal, make, run


@pytest.mark.parametrize(
    ("epochs", "every", "evaluated"), [(4, 1, [1, 2, 3, 4]), (5, 2, [2, 4, 5]), (4, 2, [2, 4]), (3, 9, [3])]
)
def test_every_so_many_epochs_and_the_last(epochs: int, every: int, evaluated: list[int]) -> None:
    assert [epoch for epoch in range(1, epochs + 1) if is_evaluated(epoch, epochs, every)] == evaluated
    state = make()
    notes = run(state, epochs=epochs, eval_every=every)
    assert [entry["epoch"] for entry in state.history] == evaluated
    assert notes.calls.count("epoch") == epochs  # every epoch leaves its line


def test_weights_are_those_of_a_run_that_looks_more_often() -> None:
    often, seldom = make(), make()
    run(often)
    run(seldom, eval_every=3)
    assert equal(often.model.state_dict(), seldom.model.state_dict())
    assert [e for e in often.history if e["epoch"] in (3, 4)] == seldom.history


@pytest.mark.parametrize(
    ("scores", "patience", "done"),
    [
        ([1.0, 0.5, 2.0], 2, 4),
        ([1.0, 0.5, 2.0], 1, 4),  # not after epoch 3, which was not evaluated
        ([1.0, 0.5, 0.5], 3, 6),  # after epoch 5 it would be time, and after 6 it is known
        ([1.0, 2.0, 0.5], 2, 6),
    ],
)
def test_an_early_stop_is_judged_where_an_epoch_was_evaluated(scores: list[float], patience: int, done: int) -> None:
    state, coming = make(), iter(scores)

    def evaluate(_: Any) -> Evaluation:
        return Evaluation("mAP", next(coming), {})

    run(state, epochs=8, evaluate=evaluate, is_enough=without_progress(patience), eval_every=2)
    assert state.epoch == done
    assert state.is_evaluated


def test_the_table_leaves_empty_what_was_not_measured() -> None:
    """Columns in the order they have where every epoch was evaluated."""
    lines: list[Line] = [
        StepLine(1, 3, 0.5, {"bce": 4.0}, 10.0), EpochLine(1, seconds=3.0),
        StepLine(2, 3, 0.25, {"bce": 2.0}, 10.0), EpochLine(2, "voc2010 mAP", 27.5, {"angle": 61.5}, 0.75, 8.5),
    ]  # fmt: skip
    assert EpochTable(lines).text() == (
        "epoch,bce,validation_loss,voc2010 mAP,angle,lr,images_per_second,seconds\n"
        "1,4.0,,,,0.5,10.0,3.0\n"
        "2,2.0,0.75,27.5,61.5,0.25,10.0,8.5\n"
    )
