"""What a user is told of an epoch."""

from typing import Any

import pytest
import torch
from torch import nn

from lshfm.console import Columns
from lshfm.engine import journal as journal_module
from lshfm.engine.journal import Journal
from lshfm.engine.lines import Line
from lshfm.engine.state import Evaluation, State
from lshfm.ranks.replicas import Clock

EVALUATED = Evaluation("mAP", 60.0, {}, {"angle": 12.5, "teacher mAP": 70.0}, unchanging=("teacher mAP",))


class Unread:
    def write(self, line: Line) -> None: ...
    def forget_after(self, epochs_done: int, steps_done: int) -> None: ...


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the journal reads, the last of the list."""
    seconds = [1000.0]
    monkeypatch.setattr(journal_module, "monotonic", lambda: seconds[-1])
    return seconds


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, str], str]]:
    """The cells and the plain line of each epoch."""
    rows: list[tuple[dict[str, str], str]] = []
    monkeypatch.setattr(Columns, "log", lambda _self, cells, plain: rows.append((cells, plain)))
    return rows


@pytest.fixture
def other_lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What else is logged."""
    lines: list[str] = []
    monkeypatch.setattr(journal_module.logger, "info", lambda text, *values: lines.append(text % values))
    return lines


def make(epochs: int = 4, steps: int = 4, every: int = 50) -> Journal:
    return Journal(Unread(), epochs=epochs, steps=steps, every=every, name_samples=list)  # type: ignore[arg-type]


def state() -> State:
    model = nn.Linear(1, 1)
    model.model = model.trained = model  # type: ignore[assignment]
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.3)
    return State(model, optimizer, ema=None, clock=Clock())  # type: ignore[arg-type]


def step(journal: Journal, at: State, bce: float) -> None:
    at.step += 1
    journal.step(at, torch.tensor([0]), {"bce": torch.tensor(bce)}, 0.1)


def end_epoch(journal: Journal, at: State) -> None:
    journal.flush(at)
    at.end_epoch(EVALUATED)
    journal.epoch(at, EVALUATED)


def test_a_loss_is_shown_from_the_first_step_on() -> None:
    journal, at = make(), state()
    step(journal, at, 0.75)
    assert journal._bar.text == "epoch 1/4  bce 0.7500  lr 0.1"
    step(journal, at, 0.25)
    assert journal._bar.text == "epoch 1/4  bce 0.7500  lr 0.1"  # the next transfer is the line's
    journal.flush(at)
    assert journal._means == {"bce": 0.5}
    journal.close()


def test_an_epoch_on_a_terminal_and_elsewhere(now: list[float], told: list[tuple[dict[str, Any], str]]) -> None:
    journal, at = make(), state()
    step(journal, at, 0.75)
    now.append(1007.25)
    end_epoch(journal, at)
    rate = told[0][0].pop("images/s")
    assert told == [
        (
            {"epoch": "1/4", "bce": "0.7500", "lr": "0.3", "mAP": "60.00", "best": "60.00", "angle": "12.50",
             "seconds": "7.2"},
            f"epoch 1/4  bce 0.7500  {rate} images/s  mAP 60.00 (best 60.00, epoch 1)  angle 12.50",
        )
    ]  # fmt: skip
    now.append(1009.0)
    end_epoch(journal, at)
    assert told[1][0]["seconds"] == "1.8"
    journal.close()


def test_what_the_teacher_scores_is_not_repeated(told: list[tuple[dict[str, Any], str]]) -> None:
    make().epoch(state(), EVALUATED)
    assert "teacher mAP" in EVALUATED.beside
    assert not [text for text in (*told[0][0], told[0][1]) if "teacher" in text]


def test_before_a_line_has_a_rate(told: list[tuple[dict[str, Any], str]]) -> None:
    make().epoch(state(), Evaluation("mAP", None, {}))
    assert told[0] == (
        {"epoch": "0/4", "lr": "0.3", "mAP": "undefined", "best": "-", "images/s": "-", "seconds": "0.0"},
        "epoch 0/4  mAP undefined",
    )


@pytest.mark.usefixtures("told")
class TestTimeToGo:
    def test_is_said_after_the_first_epoch(self, now: list[float], other_lines: list[str]) -> None:
        journal, at = make(epochs=81), state()
        now.append(1100.0)
        end_epoch(journal, at)
        now.append(1300.0)
        end_epoch(journal, at)
        assert other_lines == ["about 2:13:20 to go until the end of epoch 81"]

    def test_not_where_it_is_short(self, now: list[float], other_lines: list[str]) -> None:
        journal, at = make(epochs=3), state()
        now.append(1029.0)
        end_epoch(journal, at)
        assert other_lines == []

    def test_of_a_run_that_went_on_within_an_epoch(self, now: list[float], other_lines: list[str]) -> None:
        journal, at = make(epochs=10), state()
        at.step = 2  # of 4
        journal.resume(at, {"names": [], "rows": []})
        now.append(1050.0)
        end_epoch(journal, at)
        assert other_lines == ["about 0:15:00 to go until the end of epoch 10"]

    def test_of_a_run_that_lacked_an_evaluation_alone(self, now: list[float], other_lines: list[str]) -> None:
        journal, at = make(epochs=10), state()
        at.step = 4
        journal.resume(at, {"names": [], "rows": []})
        now.append(1001.0)
        end_epoch(journal, at)
        assert other_lines == []
        now.append(1100.0)
        end_epoch(journal, at)
        assert other_lines == ["about 0:13:20 to go until the end of epoch 10"]


@pytest.mark.usefixtures("told")
def test_the_last_epoch_has_none_to_go(now: list[float], other_lines: list[str]) -> None:
    journal, at = make(epochs=1), state()
    now.append(9000.0)
    end_epoch(journal, at)
    assert other_lines == []
