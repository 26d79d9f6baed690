"""Runs killed anywhere, again and again, end where an undisturbed run does."""

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cli.conftest import TINY
from tests.cli.killing import FILES, HASHING, IDENTITY, LINE, PREDICT, RESULTS, STAGE, STEP, STORE, TRAINING, Trap
from tests.processes import Process

pytestmark = pytest.mark.slow

OFTEN = "checkpoint_minutes=0.0001"  # after nearly every step
DATA = (*TINY[1:], "gpus=[]", "workers=0", OFTEN)
TRAIN = ("train", "model=resnet8", *DATA, "ema=0.9")
MIMIC = ("mimic", "teacher=teacher", "student=resnet8", *DATA, "epochs=2", "loss.hash_num=128")

TRAPS = {
    "first step": (TRAIN, Trap(STEP)),
    "a step in the first epoch": (TRAIN, Trap(STEP, 3, "after")),
    "a step in the last epoch": (TRAIN, Trap(STEP, 11)),
    "half a checkpoint": (TRAIN, Trap(f"{FILES}:write_bytes", 3, "half")),
    "a checkpoint written, not renamed": (TRAIN, Trap(f"{FILES}:_settle", 7)),
    "a checkpoint just renamed": (TRAIN, Trap(f"{FILES}:_settle", 10, "after")),
    "half a line of metrics": (TRAIN, Trap(LINE, 6, "half")),
    "evaluation": (TRAIN, Trap(PREDICT, 2)),
    "evaluated, not saved": (TRAIN, Trap(f"{TRAINING}:TrainingRun._save", 2)),
    "the finished checkpoint, half": (TRAIN, Trap(f"{TRAINING}:write_checkpoint", 3, "after")),
    "no results yet": (TRAIN, Trap(RESULTS)),
    "store not begun": (TRAIN, Trap(f"{STORE}.allocate", 1, "after")),
    "store being filled": (TRAIN, Trap(f"{STORE}.fill", 2)),
    "store not sealed": (TRAIN, Trap(f"{STORE}.seal", 2)),
    "identity not written": (TRAIN, Trap(IDENTITY)),
    "the teacher's evaluation": (MIMIC, Trap(PREDICT)),
    "bias: features": (MIMIC, Trap(f"{HASHING}:predict", 1, "after")),
    "bias: medians": (MIMIC, Trap(f"{HASHING}:drawn_bias")),
    "hash functions not kept": (MIMIC, Trap(f"{HASHING}:write_checkpoint")),
    "a step of stage 1": (MIMIC, Trap(STEP, 3, "after")),
    "stage 1 finished, not its results": (MIMIC, Trap(RESULTS)),
    "between the stages": (MIMIC, Trap(STAGE, 2)),
    "hash functions taken, not kept": (MIMIC, Trap(f"{HASHING}:write_checkpoint", 2)),
    "a step of stage 2": (MIMIC, Trap(STEP, 14)),
    "evaluation of stage 2": (MIMIC, Trap(PREDICT, 6)),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a teacher and the undisturbed runs, called whole."""
    folder = tmp_path_factory.mktemp("home")
    for words in (
        ("train", "model=resnet8", *DATA, "name=teacher"),
        (*TRAIN, "name=whole"),
        (*MIMIC, "name=whole"),
        (*TRAIN, "name=whole2", "ranks=2"),
        (*MIMIC, "name=whole2", "ranks=2"),
    ):
        assert run(folder, *words) == 0, (folder / "said").read_text()
    return folder


@pytest.fixture
def folder(home: Path, tmp_path: Path) -> Iterator[Path]:
    """A folder with the teacher alone; afterwards nothing is left over in it."""
    (tmp_path / "checkpoints").mkdir()
    shutil.copy(home / "checkpoints/teacher.ckpt", tmp_path / "checkpoints")
    yield tmp_path
    said = (tmp_path / "said").read_text()
    assert "Traceback" not in said, said
    assert [p for p in tmp_path.rglob("*") if p.suffix in {".tmp", ".part"}] == []


def environment(folder: Path) -> dict[str, str]:
    return {"LSHFM_CACHE": str(folder / "stores"), "TORCH_HOME": str(folder / "torch"), "OMP_NUM_THREADS": "1"}


def begin(folder: Path, *words: str, trap: Trap | None = None) -> Process:
    """Start a command in `folder`; what it says is appended to folder/said."""
    return Process(*words, folder=folder, environment=environment(folder), trap=trap, said=folder / "said")


def run(folder: Path, *words: str, trap: Trap | None = None) -> int | None:
    """The exit code of a command."""
    return begin(folder, *words, trap=trap).wait()


def assert_same(home: Path, folder: Path, command: str, whole: str) -> None:
    """Equal weights to the bit, equal lines at every step, equal results."""
    names = [""] if command == "train" else ["_stage1", "_stage2"]
    for ending in names:
        ours, theirs = (torch.load(d / f"checkpoints/{n}{ending}.ckpt") for d, n in ((folder, "a"), (home, whole)))
        assert ours["model"].keys() == theirs["model"].keys()
        assert all(torch.equal(ours["model"][key], theirs["model"][key]) for key in ours["model"])
        assert lines(folder, f"{command}/a{ending}") == lines(home, f"{command}/{whole}{ending}")
        ours, theirs = (results(d, f"{command}/{n}{ending}") for d, n in ((folder, "a"), (home, whole)))
        assert (ours["history"], ours["report"]) == (theirs["history"], theirs["report"])


def results(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "outputs" / name / "results.json").read_text())
    return found


def lines(folder: Path, name: str) -> list[dict[str, Any]]:
    text = (folder / "outputs" / name / "metrics.jsonl").read_text()
    measured = {"time", "seconds", "images_per_second", "waiting"}
    return [{k: v for k, v in json.loads(line).items() if k not in measured} for line in text.splitlines()]


@pytest.mark.parametrize("name", TRAPS)
def test_a_run_killed_there_ends_as_if_it_had_not_been(home: Path, folder: Path, name: str) -> None:
    words, trap = TRAPS[name]
    assert run(folder, *words, "name=a", trap=trap) == -signal.SIGKILL, (folder / "said").read_text()
    assert run(folder, *words, "name=a") == 0, (folder / "said").read_text()
    assert_same(home, folder, words[0], "whole")


@pytest.mark.parametrize("words", [TRAIN, MIMIC], ids=["train", "mimic"])
def test_random_kills_of_one_rank(home: Path, folder: Path, words: tuple[str, ...]) -> None:
    chance, kills = random.Random(words[0]), 0
    while True:
        process = begin(folder, *words, "name=a")
        if process.wait(chance.uniform(0.2, 1.8)) is not None or kills == 12:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    assert process.wait() == 0, (folder / "said").read_text()
    assert kills
    assert_same(home, folder, words[0], "whole")


@pytest.mark.parametrize("victim", ["the command", "a rank"])
@pytest.mark.parametrize("words", [TRAIN, MIMIC], ids=["train", "mimic"])
def test_random_kills_of_two_ranks(home: Path, folder: Path, words: tuple[str, ...], victim: str) -> None:
    chance, kills = random.Random(f"{words[0]} {victim}"), 0
    while True:
        process = begin(folder, *words, "name=a", "ranks=2")
        if kills < 3:
            wait_a_while(process, folder, chance)
        if process.poll() is not None or kills == 3:
            break
        ranks = children(process.pid)
        os.kill(process.pid if victim == "the command" or not ranks else chance.choice(ranks), signal.SIGKILL)
        assert process.wait() in (0, 1, -signal.SIGKILL), (folder / "said").read_text()
        kills += 1
        time.sleep(chance.uniform(0, 1))
    assert process.wait() == 0, (folder / "said").read_text()
    assert kills
    assert_same(home, folder, words[0], "whole2")


def wait_a_while(process: Process, folder: Path, chance: random.Random) -> None:
    """Until the ranks, which take seconds to start, have said something more in a run's log, and a little longer."""
    logs = ["outputs/train/a/log.txt", "outputs/mimic/a_stage1/log.txt", "outputs/mimic/a_stage2/log.txt"]

    def size() -> int:
        return sum((folder / log).stat().st_size for log in logs if (folder / log).exists())

    before, early = size(), chance.random() < 0.25  # now and then kill them while they start
    end = time.monotonic() + (chance.uniform(1, 5) if early else 600)
    while size() == before and time.monotonic() < end and process.poll() is None:
        time.sleep(0.01)
    process.wait(chance.uniform(0, 1.5))


def children(pid: int) -> list[int]:
    """The ranks that a command has started, not multiprocessing's own children."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found if b"/worker.py" in Path(f"/proc/{child}/cmdline").read_bytes()]
