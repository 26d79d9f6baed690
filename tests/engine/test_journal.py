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


def step(journal: Journal, epoch: int, number: int, lr: float = 0.1, **losses: float) -> None:
    index = torch.tensor([2 * number, 2 * number + 1])
    journal.step(epoch, number, index, {name: torch.tensor(value) for name, value in losses.items()}, lr)


def written(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def state(*scores: float | None) -> State:
    model = nn.Linear(1, 1)
    model.model = model  # type: ignore[assignment]
    told = State(model, torch.optim.SGD(nn.Linear(1, 1).parameters()))  # type: ignore[arg-type]
    for score in scores:
        told.end_epoch(Evaluation("voc2010 mAP", score, {}))
    return told


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def test_a_line_for_so_many_steps_with_the_means(path: Path) -> None:
    journal = make(path)
    for number, loss in enumerate([1.0, 2.0, 4.0, 6.0, 7.0]):
        step(journal, 1, number, lr=0.1 / (number + 1), bce=loss, lsh=-loss)
    journal.flush()
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
    make(path).flush()
    assert not path.exists()


def test_an_epochs_end(path: Path, said: list[str]) -> None:
    journal = make(path, steps=1)
    step(journal, 0, 0, bce=0.25)
    journal.flush()
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
    journal = make(path, every=5)
    for number in range(4):
        step(journal, 1, number, lr=0.5, bce=bad if number == 3 else 1.0, lsh=bad if number >= 2 else 0.5)
    with pytest.raises(RunFailed) as caught:
        journal.flush()
    first, samples, advice = str(caught.value).splitlines()
    assert first == f"the loss is not finite: lsh = {bad} at epoch 2, step 3, lr 0.5."
    assert samples == "Samples of that step: image_4, image_5."
    assert "lower lr" in advice
    assert not path.exists()  # what cannot be written as JSON is not


def test_it_is_found_at_the_log_line_that_comes_next(path: Path) -> None:
    journal = make(path)
    for number in range(2):
        step(journal, 0, number, bce=1.0)
    step(journal, 0, 2, bce=math.nan)
    with pytest.raises(RunFailed, match="epoch 1, step 3"):
        step(journal, 0, 3, bce=1.0)
    assert [line["step"] for line in written(path)] == [2]
    journal.close()


def test_resuming_drops_later_epochs_and_half_a_line(path: Path) -> None:
    keep = [json.dumps({"epoch": epoch, "step": 1, "bce": 0.1 + epoch}) for epoch in (1, 2)]
    path.write_text("\n".join([*keep, json.dumps({"epoch": 3, "step": 1}), '{"epoch": 2, "st']))
    make(path).resume(2)
    assert path.read_text() == "".join(f"{line}\n" for line in keep)


@pytest.mark.parametrize("line", ["", "[1]", "null", '{"step": 1}', '{"epoch": null}', "{"])
def test_resuming_takes_out_what_is_no_line_of_ours(path: Path, line: str) -> None:
    path.write_text(f'{line}\n{{"epoch": 1}}\n')
    make(path).resume(1)
    assert path.read_text() == '{"epoch": 1}\n'


def test_resuming_at_the_start(path: Path) -> None:
    make(path).resume(0)
    assert not path.exists()
    path.write_text('{"epoch": 1}\n')
    make(path).resume(0)
    assert path.read_text() == ""
