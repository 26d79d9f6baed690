"""What is written while training, and how a loss that is not finite is found."""

import logging
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from lshfm.console import logger
from lshfm.engine.journal import Journal
from lshfm.engine.lines import EpochLine, Line, StepLine, Waiting
from lshfm.engine.state import Evaluation, State
from lshfm.errors import RunFailed
from lshfm.files.write import assert_plain
from lshfm.ranks.group import PeerLost, rank
from lshfm.ranks.replicas import Clock
from tests.groups import ends_of, in_ranks

NOTHING: dict[str, Any] = {"names": [], "rows": []}  # as a journal keeps it after an epoch


@pytest.fixture
def said() -> Iterator[list[str]]:
    """Lines of the log."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield lines
    logger.setLevel(level)
    logger.removeHandler(handler)


class Kept(list[Line]):
    """A list of lines that notes what it is to forget."""

    forgotten: tuple[int, int] | None = None

    def write(self, line: Line) -> None:
        self.append(line)

    def forget_after(self, epochs_done: int, steps_done: int) -> None:
        self.forgotten = (epochs_done, steps_done)


def make(lines: Kept, every: int = 2, steps: int = 5) -> Journal:
    def names(samples: Any) -> list[str]:
        return [f"image_{i}" for i in samples]

    return Journal(lines, epochs=3, steps=steps, every=every, name_samples=names)


def step(journal: Journal, state: State, lr: float = 0.1, **losses: float) -> None:
    """One more step, on two samples of its own."""
    index = torch.tensor([2 * state.step, 2 * state.step + 1])
    state.step += 1
    journal.step(state, index, {name: torch.tensor(value) for name, value in losses.items()}, lr)


def untimed(line: Line) -> Line:
    """The line without what was measured, which is more than nothing."""
    assert isinstance(line, StepLine)
    assert line.images_per_second
    assert line.images_per_second > 0
    return replace(line, images_per_second=None)


def state(*scores: float | None, step: int = 0) -> State:
    """After so many epochs as there are scores, and steps."""
    model = nn.Linear(1, 1)
    model.model = model.trained = model  # type: ignore[assignment]
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.3)
    told = State(model, optimizer, ema=None, clock=Clock())  # type: ignore[arg-type]
    for score in scores:
        told.end_epoch(Evaluation("voc2010 mAP", score, {}))
    told.step = step
    return told


@pytest.fixture
def lines() -> Kept:
    return Kept()


def test_a_line_for_so_many_steps_with_the_means(lines: Kept) -> None:
    journal, at = make(lines), state(1.0)
    for number, loss in enumerate([1.0, 2.0, 4.0, 6.0, 7.0]):
        step(journal, at, lr=0.1 / (number + 1), bce=loss, lsh=-loss)
    journal.flush(at)
    journal.close()
    assert [untimed(line) for line in lines] == [
        StepLine(2, 2, 0.05, {"bce": 1.5, "lsh": -1.5}),
        StepLine(2, 4, 0.025, {"bce": 5.0, "lsh": -5.0}),
        StepLine(2, 5, 0.02, {"bce": 7.0, "lsh": -7.0}),
    ]


def test_nothing_pending_writes_nothing(lines: Kept) -> None:
    make(lines).flush(state())
    assert lines == []


def test_an_epochs_end(lines: Kept, said: list[str]) -> None:
    journal, at = make(lines, steps=1), state()
    step(journal, at, bce=0.25)
    journal.flush(at)
    journal.epoch(state(50.0, 61.234, 60.0), Evaluation("voc2010 mAP", 60.0, {}, {"angle": 12.5, "length": None}))
    assert lines[-1] == EpochLine(3, "voc2010 mAP", 60.0, {"angle": 12.5, "length": None})
    assert len(said) == 1
    assert said[0].startswith("epoch 3/3  bce 0.2500  ")
    assert said[0].endswith(" images/s  voc2010 mAP 60.00 (best 61.23, epoch 2)  angle 12.50  length undefined")


def test_an_undefined_score_is_none_and_said(lines: Kept, said: list[str]) -> None:
    make(lines).epoch(state(None), Evaluation("voc2010 mAP", None, {}))
    assert lines == [EpochLine(1, "voc2010 mAP", None)]
    assert said[0].endswith("voc2010 mAP undefined")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_the_first_loss_that_is_not_finite_is_named(lines: Kept, bad: float) -> None:
    journal, at = make(lines, every=5), state(1.0)
    for number in range(4):
        step(journal, at, lr=0.5, bce=bad if number == 3 else 1.0, lsh=bad if number >= 2 else 0.5)
    with pytest.raises(RunFailed) as caught:
        journal.flush(at)
    first, samples, advice = str(caught.value).splitlines()
    assert first == f"the loss is not finite: lsh = {bad} at epoch 2, step 3, lr 0.5."
    assert samples == "Samples of that step: image_4, image_5."
    assert "lower lr" in advice
    assert lines == []


def test_it_is_found_at_the_log_line_that_comes_next(lines: Kept) -> None:
    journal, at = make(lines), state()
    for loss in (1.0, 1.0, math.nan):
        step(journal, at, bce=loss)
    with pytest.raises(RunFailed, match="epoch 1, step 3"):
        step(journal, at, bce=1.0)
    assert [line.step for line in lines if isinstance(line, StepLine)] == [2]
    journal.close()


@pytest.mark.parametrize("scores", [(), (1.0,), (1.0, 2.0)])
def test_resuming_forgets_what_came_later(lines: Kept, scores: tuple[float, ...]) -> None:
    make(lines).resume(state(*scores), NOTHING)
    assert lines.forgotten == (len(scores), 0)


class TestWithinAnEpoch:
    def stopped(self, lines: Kept, every: int = 4, losses: tuple[float, ...] = (1.0, 2.0, 6.0)) -> tuple[State, Any]:
        """A run that took so many steps of its second epoch, and what its journal keeps."""
        journal, at = make(lines, every=every), state(50.0)
        for loss in losses:
            step(journal, at, bce=loss, lsh=-loss)
        journal.settle()
        journal.close()
        return at, journal.state_dict()

    def test_losses_that_no_line_shows_are_kept(self, lines: Kept) -> None:
        _, saved = self.stopped(lines)
        assert saved == {"names": ["bce", "lsh"], "rows": [[1.0, -1.0], [2.0, -2.0], [6.0, -6.0]]}
        assert_plain(saved)
        assert lines == []

    def test_the_next_line_is_of_them_too(self, lines: Kept) -> None:
        at, saved = self.stopped(lines)
        journal = make(lines, every=4)
        journal.resume(at, saved)
        step(journal, at, bce=7.0, lsh=-7.0)
        journal.close()
        assert [untimed(line) for line in lines] == [StepLine(2, 4, 0.1, {"bce": 4.0, "lsh": -4.0})]
        assert journal.state_dict()["rows"] == []

    def test_an_epoch_that_lacks_its_evaluation_alone_gets_its_line(self, lines: Kept) -> None:
        at, saved = self.stopped(lines, losses=(1.0,) * 4 + (3.0,))
        journal = make(lines, every=4)
        journal.resume(at, saved)
        journal.flush(at)
        assert lines[-1] == StepLine(2, 5, 0.3, {"bce": 3.0, "lsh": -3.0})

    @pytest.mark.parametrize(
        ("losses", "done"),
        [((1.0, 1.0), (1, 2)), ((1.0, 1.0, 1.0), (1, 2))],  # that of step 3 came later: the third loss waits for it
    )
    def test_lines_on_steps_that_will_be_done_again_go(
        self, lines: Kept, losses: tuple[float, ...], done: tuple[int, int]
    ) -> None:
        at, saved = self.stopped(lines, every=2, losses=losses)
        make(lines).resume(at, saved)
        assert lines.forgotten == done


def _two_lines(losses: list[list[float]], busy: list[float]) -> Kept:
    lines = Kept()
    journal, at = make(lines), state()
    for number, loss in enumerate(losses[rank()], start=1):
        if number == 2:
            at.clock.take()
            at.clock.busy = busy[rank()]
        step(journal, at, lr=0.2, bce=loss)
    journal.flush(at)
    journal.epoch(at, Evaluation("mAP", 5.0, {}))
    return lines


def test_rank_0_writes_means_over_the_ranks_and_how_long_they_wait() -> None:
    (first, second, third), others = in_ranks(2, _two_lines, [[1.0, 2.0, 4.0], [3.0, 6.0, 5.0]], [1.25, 4.5])
    assert others == []
    assert second.waiting.seconds == 0
    assert untimed(first) == StepLine(1, 2, 0.2, {"bce": 3.0}, waiting=Waiting(3.25, for_rank=1))
    assert untimed(second) == StepLine(1, 3, 0.2, {"bce": 4.5}, waiting=second.waiting)
    assert third == EpochLine(0, "mAP", 5.0)


def _resumed() -> tuple[int, int] | None:
    lines = Kept()
    make(lines).resume(state(1.0), NOTHING)
    return lines.forgotten


def test_rank_0_alone_takes_lines_back() -> None:
    assert in_ranks(2, _resumed) == [(1, 0), None]


def _spoilt(firsts: list[int | None]) -> None:
    journal, at, first = make(Kept(), every=5), state(), firsts[rank()]
    for number in range(4):
        at.step += 1
        loss = math.nan if first is not None and number >= first else 1.0
        journal.step(at, torch.tensor([10 * number + rank()]), {"bce": torch.tensor(loss)}, 0.1)
    journal.flush(at)


@pytest.mark.parametrize(
    ("firsts", "culprit"),
    [
        ([2, 1], 1),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in [([1, 2], 0), ([None, 3], 1), ([2, 2], 0)]),
    ],
)
def test_the_rank_that_was_first_to_lose_a_finite_loss_names_its_samples(
    firsts: list[int | None], culprit: int
) -> None:
    ends = ends_of(2, _spoilt, firsts)
    number = firsts[culprit]
    assert number is not None
    assert type(ends[culprit]) is RunFailed
    first, samples, _ = str(ends[culprit]).splitlines()
    assert first == f"rank {culprit}: the loss is not finite: bce = nan at epoch 1, step {number + 1}, lr 0.1."
    assert samples == f"Samples of that step: image_{10 * number + culprit}."
    assert (type(ends[1 - culprit]), ends[1 - culprit].shown) == (PeerLost, True)


def test_a_short_batch_counts_its_own_images(lines: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, at = make(lines, every=9), state(1.0)
    for images in (2, 2, 1):
        at.step += 1
        journal.step(at, torch.arange(images), {"bce": torch.tensor(1.0)}, 0.1)
    monkeypatch.setattr(at.clock, "take", lambda: (0.5, 0.5))
    journal.flush(at)
    journal.close()
    assert [line.images_per_second for line in lines if isinstance(line, StepLine)] == [10.0]
