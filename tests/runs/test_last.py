"""last.ckpt: what a run keeps of itself, and what it says of a file that it cannot use."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lshfm.engine.assemble import assemble
from lshfm.engine.journal import Journal
from lshfm.engine.state import Evaluation, State
from lshfm.errors import InputError, RunFailed
from lshfm.losses.classification import BCE
from lshfm.models.cifar import cifar_classifier
from lshfm.objectives.supervised import Supervised
from lshfm.ranks.group import rank
from lshfm.runs.folder import RunFolder
from lshfm.runs.last import position_of, restore, write_last
from lshfm.runs.record import Metrics
from tests.engine.test_training_loop import equal
from tests.groups import ends_of

EPOCHS, STEPS = 3, 4
MADE_BY = {"threads": 2, "torch": "2.0.0", "ranks": 1, "device": "cpu", "pixels": "a store", "config": {"lr": 0.1}}
HASHES = {"num": 2, "bias": torch.tensor([0.5, -0.5])}


def made(seed: int, *, ema: float = 0.9) -> State:
    torch.manual_seed(seed)
    objective = Supervised(cifar_classifier("resnet8", 2), BCE(), "bce")
    return assemble(objective, optimizer="adamw", momentum=0.9, weight_decay=0.1, ema=ema, constants=HASHES)


def journal(folder: Path) -> Journal:
    lines = Metrics(folder / "metrics.jsonl")
    return Journal(lines, epochs=EPOCHS, steps=STEPS, every=4, name_samples=lambda _: [])


def kept(folder: Path) -> tuple[State, Journal]:
    """A run that left a last.ckpt in its second epoch, after two steps."""
    state, notes = made(1), journal(folder)
    state.end_epoch(Evaluation("mAP", 50.0, {"mAP": 50.0}))
    for loss in (1.0, 3.0):
        for parameter in state.objective.model.parameters():  # type: ignore[attr-defined]
            parameter.grad = torch.ones_like(parameter)
        state.update(0.1)
        notes.step(state, torch.tensor([0, 1]), {"bce": torch.tensor(loss)}, 0.1)
    notes.settle()
    notes.close()
    state.synchronise()
    state.seconds, state.evaluation_seconds = 7.0, 1.5
    write_last(RunFolder(folder), state, notes, MADE_BY, 1)
    return state, notes


def restored(folder: Path, state: State | None = None) -> tuple[State, Journal]:
    state, notes = state or made(2), journal(folder)
    restore(RunFolder(folder), state, notes, MADE_BY, EPOCHS)
    return state, notes


def plain(state: State) -> dict[str, Any]:
    return {name: value for name, value in state.state_dict().items() if name != "random"}


def change(folder: Path, how: Callable[[dict[str, Any]], Any]) -> None:
    """last.ckpt with something in it changed."""
    content = torch.load(folder / "last.ckpt", weights_only=True)
    how(content)
    torch.save(content, folder / "last.ckpt")


def test_a_run_without_a_file_starts_at_the_start(tmp_path: Path, said: list[str]) -> None:
    state, notes = restored(tmp_path)
    assert (state.epoch, state.step, notes.state_dict()["rows"], said) == (0, 0, [], [])
    assert position_of(RunFolder(tmp_path)) == "from the start"


def test_a_run_goes_on_where_it_was(tmp_path: Path, said: list[str]) -> None:
    before, numbers = kept(tmp_path), torch.get_rng_state()
    after = restored(tmp_path)
    assert equal(plain(after[0]), plain(before[0]))
    assert (after[0].epoch, after[0].step, after[0].seconds, after[0].evaluation_seconds) == (1, 2, 7.0, 1.5)
    assert after[1].state_dict() == before[1].state_dict() == {"names": ["bce"], "rows": [[1.0], [3.0]]}
    assert torch.equal(torch.get_rng_state(), numbers)
    assert said == ["continuing after epoch 1 and 2 steps of 3 epochs"]
    assert position_of(RunFolder(tmp_path)) == "after epoch 1 and 2 steps"


@pytest.mark.parametrize(
    ("other", "changed"),
    [
        ({"ranks": 4}, "its number of ranks"),
        ({"threads": 1, "torch": "2.0.1"}, "its number of CPU threads and torch's version"),
        ({"device": "cuda", "pixels": "decoded"}, "its device and the version or place of its pixels"),
    ],
)
def test_other_ranks_or_another_device_are_said(
    tmp_path: Path, said: list[str], other: dict[str, Any], changed: str
) -> None:
    kept(tmp_path)
    change(tmp_path, lambda content: content.update(other))
    restored(tmp_path)
    assert said[1:] == [
        f"{changed} changed since it was saved: the results will not be to the bit those of an undisturbed run"
    ]


def as_version_1(content: dict[str, Any]) -> None:
    """What was written before there were ranks, after an epoch."""
    for name in (*MADE_BY, "journal"):
        del content[name]
    del content["state"]["step"], content["state"]["evaluation_seconds"]
    content["version"] = 1
    (content["state"]["random"],) = content["state"]["random"]


def test_a_file_of_version_1_is_taken(tmp_path: Path, said: list[str]) -> None:
    before, _ = kept(tmp_path)
    change(tmp_path, as_version_1)
    numbers = torch.get_rng_state()
    after, notes = restored(tmp_path)
    before.step, before.evaluation_seconds = 0, 0.0
    assert equal(plain(after), plain(before))
    assert torch.equal(torch.get_rng_state(), numbers)
    assert notes.state_dict() == {"names": [], "rows": []}
    assert said == ["continuing after epoch 1 of 3 epochs"]
    assert position_of(RunFolder(tmp_path)) == "after epoch 1"


def test_a_file_from_when_evaluations_counted_as_training(tmp_path: Path) -> None:
    kept(tmp_path)
    change(tmp_path, lambda content: content["state"].pop("evaluation_seconds"))
    state, _ = restored(tmp_path)
    assert (state.seconds, state.evaluation_seconds) == (7.0, 0.0)


FAULTS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "newer": (lambda c: c.update(version=3), "a newer lshfm wrote it: upgrade to go on with it"),
    "no version": (lambda c: c.pop("version"), "it is no checkpoint of a run"),
    "a finished checkpoint": (lambda c: c.update(format="lshfm"), "it is no checkpoint of a run"),
    "no state": (lambda c: c.pop("state"), "'state'"),
    "no journal": (lambda c: c.pop("journal"), "'journal'"),
    "no step": (lambda c: c["state"].pop("step"), "'step'"),
    "half of version 1": (lambda c: (as_version_1(c), c["state"].pop("random")), "'random'"),
    "another network": (lambda c: c["state"]["model"].pop("classifier.bias"), "Missing key"),
    "other hash functions": (lambda c: c["state"]["constants"].update(num=3), "its losses were set up otherwise"),
    "no random numbers": (lambda c: c["state"].update(random=[{"cpu": None, "cuda": None}]), ""),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_used_is_one_message(tmp_path: Path, fault: str) -> None:
    kept(tmp_path)
    how, reason = FAULTS[fault]
    change(tmp_path, how)
    with pytest.raises(InputError) as caught:
        restored(tmp_path)
    first, *_, last = str(caught.value).splitlines()
    assert first.startswith(f"{tmp_path / 'last.ckpt'} cannot be used: ")
    assert reason in str(caught.value)
    assert last.startswith(f"So the run cannot go on: delete {tmp_path} to start anew")


@pytest.mark.parametrize("content", [b"", b"half a file"])
def test_a_damaged_file_is_one_message(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "last.ckpt").write_bytes(content)
    with pytest.raises(InputError, match=re.escape(f"{tmp_path / 'last.ckpt'} cannot be used")):
        restored(tmp_path)


def _restored_apart(folder: Path) -> None:
    restored(folder / str(rank()))


@pytest.mark.slow
def test_ranks_that_see_different_files_do_not_start(tmp_path: Path) -> None:
    for name in ("0", "1"):
        (tmp_path / name).mkdir()
    kept(tmp_path / "0")
    ends = ends_of(2, _restored_apart, tmp_path)
    assert {type(end) for end in ends} == {RunFailed}
    assert all("last.ckpt: rank 1 has something else than rank 0" in str(end) for end in ends)
