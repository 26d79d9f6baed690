"""What is written while training, and how a loss that is not finite is found."""

import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lshfm.console import logger
from lshfm.engine.journal import Journal
from lshfm.engine.state import Evaluation, State
from lshfm.errors import RunFailed
from lshfm.files.write import assert_plain
from lshfm.ranks.group import PeerLost, rank
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


def make(path: Path, every: int = 2, steps: int = 5) -> Journal:
    def names(samples: Any) -> list[str]:
        return [f"image_{i}" for i in samples]

    return Journal(path, epochs=3, steps=steps, batch_size=4, every=every, name_samples=names)


def step(journal: Journal, state: State, lr: float = 0.1, **losses: float) -> None:
    """One more step, on two samples of its own."""
    index = torch.tensor([2 * state.step, 2 * state.step + 1])
    state.step += 1
    journal.step(state, index, {name: torch.tensor(value) for name, value in losses.items()}, lr)


def written(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def state(*scores: float | None, step: int = 0) -> State:
    """After so many epochs as there are scores, and steps."""
    model = nn.Linear(1, 1)
    model.model = model.trained = model  # type: ignore[assignment]
    told = State(model, torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.3))  # type: ignore[arg-type]
    for score in scores:
        told.end_epoch(Evaluation("voc2010 mAP", score, {}))
    told.step = step
    return told


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def test_a_line_for_so_many_steps_with_the_means(path: Path) -> None:
    journal, at = make(path), state(1.0)
    for number, loss in enumerate([1.0, 2.0, 4.0, 6.0, 7.0]):
        step(journal, at, lr=0.1 / (number + 1), bce=loss, lsh=-loss)
    journal.flush(at)
    journal.close()
    lines = written(path)
    speeds = [line.pop("images_per_second") for line in lines]
    assert lines == [
        {"epoch": 2, "step": 2, "lr": 0.05, "bce": 1.5, "lsh": -1.5},
        {"epoch": 2, "step": 4, "lr": 0.025, "bce": 5.0, "lsh": -5.0},
        {"epoch": 2, "step": 5, "lr": 0.02, "bce": 7.0, "lsh": -7.0},
    ]
    assert all(speed > 0 for speed in speeds)


def test_nothing_pending_writes_nothing(path: Path) -> None:
    make(path).flush(state())
    assert not path.exists()


def test_an_epochs_end(path: Path, said: list[str]) -> None:
    journal, at = make(path, steps=1), state()
    step(journal, at, bce=0.25)
    journal.flush(at)
    journal.epoch(state(50.0, 61.234, 60.0), Evaluation("voc2010 mAP", 60.0, {}))
    assert written(path)[-1] == {"epoch": 3, "metric": "voc2010 mAP", "score": 60.0}
    assert len(said) == 1
    assert said[0].startswith("epoch 3/3  bce 0.2500  ")
    assert said[0].endswith(" images/s  voc2010 mAP 60.00 (best 61.23, epoch 2)")


def test_an_undefined_score_is_null_and_said(path: Path, said: list[str]) -> None:
    make(path).epoch(state(None), Evaluation("voc2010 mAP", None, {}))
    assert written(path) == [{"epoch": 1, "metric": "voc2010 mAP", "score": None}]
    assert said[0].endswith("voc2010 mAP undefined")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_the_first_loss_that_is_not_finite_is_named(path: Path, bad: float) -> None:
    journal, at = make(path, every=5), state(1.0)
    for number in range(4):
        step(journal, at, lr=0.5, bce=bad if number == 3 else 1.0, lsh=bad if number >= 2 else 0.5)
    with pytest.raises(RunFailed) as caught:
        journal.flush(at)
    first, samples, advice = str(caught.value).splitlines()
    assert first == f"the loss is not finite: lsh = {bad} at epoch 2, step 3, lr 0.5."
    assert samples == "Samples of that step: image_4, image_5."
    assert "lower lr" in advice
    assert not path.exists()  # what cannot be written as JSON is not


def test_it_is_found_at_the_log_line_that_comes_next(path: Path) -> None:
    journal, at = make(path), state()
    for loss in (1.0, 1.0, math.nan):
        step(journal, at, bce=loss)
    with pytest.raises(RunFailed, match="epoch 1, step 3"):
        step(journal, at, bce=1.0)
    assert [line["step"] for line in written(path)] == [2]
    journal.close()


def test_resuming_drops_later_epochs_and_half_a_line(path: Path) -> None:
    keep = [json.dumps({"epoch": epoch, "step": 1, "bce": 0.1 + epoch}) for epoch in (1, 2)]
    path.write_text("\n".join([*keep, json.dumps({"epoch": 3, "step": 1}), '{"epoch": 2, "st']))
    make(path).resume(state(1.0, 2.0), NOTHING)
    assert path.read_text() == "".join(f"{line}\n" for line in keep)


@pytest.mark.parametrize("line", ["", "[1]", "null", '{"step": 1}', '{"epoch": null}', "{"])
def test_resuming_takes_out_what_is_no_line_of_ours(path: Path, line: str) -> None:
    path.write_text(f'{line}\n{{"epoch": 1}}\n')
    make(path).resume(state(1.0), NOTHING)
    assert path.read_text() == '{"epoch": 1}\n'


def test_resuming_at_the_start(path: Path) -> None:
    make(path).resume(state(), NOTHING)
    assert not path.exists()
    path.write_text('{"epoch": 1}\n')
    make(path).resume(state(), NOTHING)
    assert path.read_text() == ""


class TestWithinAnEpoch:
    def stopped(self, path: Path, every: int = 4, losses: tuple[float, ...] = (1.0, 2.0, 6.0)) -> tuple[State, Any]:
        """A run that took so many steps of its second epoch, and what its journal keeps."""
        journal, at = make(path, every=every), state(50.0)
        for loss in losses:
            step(journal, at, bce=loss, lsh=-loss)
        journal.settle()
        journal.close()
        return at, journal.state_dict()

    def test_losses_that_no_line_shows_are_kept(self, path: Path) -> None:
        _, saved = self.stopped(path)
        assert saved == {"names": ["bce", "lsh"], "rows": [[1.0, -1.0], [2.0, -2.0], [6.0, -6.0]]}
        assert_plain(saved)
        assert not path.exists()

    def test_the_next_line_is_of_them_too(self, path: Path) -> None:
        at, saved = self.stopped(path)
        journal = make(path, every=4)
        journal.resume(at, saved)
        step(journal, at, bce=7.0, lsh=-7.0)
        journal.close()
        (line,) = written(path)
        assert line.pop("images_per_second") > 0
        assert line == {"epoch": 2, "step": 4, "lr": 0.1, "bce": 4.0, "lsh": -4.0}
        assert journal.state_dict()["rows"] == []

    def test_an_epoch_that_lacks_its_evaluation_alone_gets_its_line(self, path: Path) -> None:
        at, saved = self.stopped(path, losses=(1.0,) * 4 + (3.0,))
        journal = make(path, every=4)
        journal.resume(at, saved)
        journal.flush(at)
        assert written(path)[-1] == {"epoch": 2, "step": 5, "lr": 0.3, "bce": 3.0, "lsh": -3.0}

    @pytest.mark.parametrize(
        ("losses", "kept"),
        [
            ((1.0, 1.0), [(1, None), (2, 1), (2, 2)]),
            ((1.0, 1.0, 1.0), [(1, None), (2, 1), (2, 2)]),  # that of step 3 came later: the third loss waits for it
        ],
    )
    def test_lines_on_steps_that_will_be_done_again_go(
        self, path: Path, losses: tuple[float, ...], kept: list[tuple[int, int | None]]
    ) -> None:
        at, saved = self.stopped(path, every=2, losses=losses)
        lines = [{"epoch": 1, "metric": "mAP"}, *({"epoch": 2, "step": n} for n in (1, 2, 3, 4)), {"epoch": 2}]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        make(path).resume(at, saved)
        assert [(line["epoch"], line.get("step")) for line in written(path)] == kept


def _two_lines(folder: Path, losses: list[list[float]], busy: list[float]) -> None:
    journal, at = make(folder / f"{rank()}.jsonl"), state()
    for number, loss in enumerate(losses[rank()], start=1):
        if number == 2:
            at.clock.take()
            at.clock.busy = busy[rank()]
        step(journal, at, lr=0.2, bce=loss)
    journal.flush(at)
    journal.epoch(at, Evaluation("mAP", 5.0, {}))


def test_rank_0_writes_means_over_the_ranks_and_how_long_they_wait(tmp_path: Path) -> None:
    in_ranks(2, _two_lines, tmp_path, [[1.0, 2.0, 4.0], [3.0, 6.0, 5.0]], [1.25, 4.5])
    assert [path.name for path in tmp_path.iterdir()] == ["0.jsonl"]
    lines = written(tmp_path / "0.jsonl")
    assert [line.pop("images_per_second") > 0 for line in lines[:2]] == [True] * 2
    assert lines[0].pop("waiting") == {"seconds": 3.25, "for_rank": 1}
    assert lines[1].pop("waiting")["seconds"] == 0
    assert lines == [
        {"epoch": 1, "step": 2, "lr": 0.2, "bce": 3.0},
        {"epoch": 1, "step": 3, "lr": 0.2, "bce": 4.5},
        {"epoch": 0, "metric": "mAP", "score": 5.0},
    ]


def _resumed(folder: Path) -> None:
    path = folder / f"{rank()}.jsonl"
    path.write_text('{"epoch": 3}\n')
    make(path).resume(state(1.0), NOTHING)


def test_rank_0_alone_takes_lines_back(tmp_path: Path) -> None:
    in_ranks(2, _resumed, tmp_path)
    assert [(tmp_path / f"{r}.jsonl").read_text() for r in (0, 1)] == ["", '{"epoch": 3}\n']


def _spoilt(path: Path, firsts: list[int | None]) -> None:
    journal, at, first = make(path, every=5), state(), firsts[rank()]
    for number in range(4):
        at.step += 1
        loss = math.nan if first is not None and number >= first else 1.0
        journal.step(at, torch.tensor([10 * number + rank()]), {"bce": torch.tensor(loss)}, 0.1)
    journal.flush(at)


@pytest.mark.parametrize(("firsts", "culprit"), [([2, 1], 1), ([1, 2], 0), ([None, 3], 1), ([2, 2], 0)])
def test_the_rank_that_was_first_to_lose_a_finite_loss_names_its_samples(
    path: Path, firsts: list[int | None], culprit: int
) -> None:
    ends = ends_of(2, _spoilt, path, firsts)
    number = firsts[culprit]
    assert number is not None
    assert type(ends[culprit]) is RunFailed
    first, samples, _ = str(ends[culprit]).splitlines()
    assert first == f"rank {culprit}: the loss is not finite: bce = nan at epoch 1, step {number + 1}, lr 0.1."
    assert samples == f"Samples of that step: image_{10 * number + culprit}."
    assert (type(ends[1 - culprit]), ends[1 - culprit].shown) == (PeerLost, True)
    assert not path.exists()
