"""lshfm runs as a user types it: tables, files for scripts, two runs side by side, cleaning up."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import here
from tests.runs.test_listing import make


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    outputs = tmp_path / "outputs"
    make(outputs, "a")
    make(outputs, "b", seed=1, lr=0.2)
    make(outputs, "c", finished=False, seed=2)
    (outputs / "train/odd\x1b[31m").mkdir()
    return tmp_path


def test_a_line_a_run(folder: Path) -> None:
    said = here(folder, "runs", "sort=name").splitlines()
    assert said[0].split() == [
        "state",
        "epochs",
        "score",
        "metric",
        "age",
        "run",
        *["settings", "that", "differ,", "or", "what", "is", "wrong"],
    ]
    assert [line.split()[0] for line in said[1:-1]] == ["finished", "finished", "unfinished", "foreign"]
    assert said[1].split()[-3:] == ["train/a", "lr=0.1", "seed=0"]
    assert "odd\\x1b[31m" in said[4]  # escaped: a name cannot steer the terminal
    assert said[-1] == "4 runs in outputs: 2 finished, 1 unfinished, 1 foreign"


def test_files_are_told_apart_by_the_start_of_their_hash(folder: Path) -> None:
    make(folder / "outputs", "d", weights="0123456789abcdef" * 4)
    (line,) = (line for line in here(folder, "runs").splitlines() if "train/d" in line)
    assert "weights=01234567" in line.split()
    (entry,) = json.loads(here(folder, "runs", "format=json", "where=name=d"))
    assert entry["settings"]["weights"] == "0123456789abcdef" * 4


def test_for_scripts(folder: Path) -> None:
    entries = json.loads(here(folder, "runs", "format=json", "where=state=finished", "sort=score"))
    assert [(entry["name"], entry["score"], entry["settings"]["lr"]) for entry in entries] == [
        ("b", 41.0, 0.2), ("a", 40.0, 0.1),
    ]  # fmt: skip
    rows = list(csv.DictReader(io.StringIO(here(folder, "runs", "format=csv", "where=name=?", "sort=name"))))
    assert [(row["name"], row["state"], row["lr"], row["seed"]) for row in rows] == [
        ("a", "finished", "0.1", "0"), ("b", "finished", "0.2", "1"), ("c", "unfinished", "0.1", "2"),
    ]  # fmt: skip


def test_two_runs_side_by_side(folder: Path) -> None:
    said = [line.split() for line in here(folder, "runs", "compare", "a", "outputs/train/c").splitlines()]
    assert ["run", "a", "c"] in said
    assert ["seed", "0", "2"] in said
    assert ["state", "finished", "unfinished"] in said
    assert ["mAP", "40", "30"] in said
    assert not [line for line in said if line and line[0] == "lr"]


def test_cleaning_up_lists_first_and_deletes_when_told(folder: Path) -> None:
    said = here(folder, "runs", "clean", "what=unfinished,last")
    assert "outputs/train/c" in said
    assert "can then not be trained on exactly" in said
    assert "delete=true deletes it" in said
    assert (folder / "outputs/train/c").is_dir()
    assert "deleted: " in here(folder, "runs", "clean", "what=unfinished", "delete=true")
    assert not (folder / "outputs/train/c").exists()
    assert (folder / "outputs/train/a/last.ckpt").exists()
    assert here(folder, "runs", "clean", "what=unfinished") == "nothing could go\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sort=scroe"], "sort=scroe: no run has such a key (did you mean 'score'?)"),
        (["formt=csv"], "formt: no such key (did you mean 'format'?)"),
        (["format=yaml"], "format=yaml: must be one of table, csv, json"),
        (["output_dir=nowhere"], "output_dir=nowhere: no runs are there"),
        (["list"], "lshfm runs list: takes compare A B, clean, and KEY=VALUE"),
        (["compare", "a"], "lshfm runs compare takes two runs"),
        (["compare", "a", "bb"], "bb: no run in outputs is called so, nor is it a folder"),
        (["clean", "what=all"], "what=all: must be some of unfinished, superseded, last"),
    ],
)
def test_what_is_refused(folder: Path, words: list[str], message: str) -> None:
    assert here(folder, "runs", *words, code=2).startswith(f"lshfm: error: {message}")


def test_neither_runs_nor_sweeps_wait_for_torch() -> None:
    code = (
        "import sys, lshfm.commands.runs, lshfm.sweeps.start;"
        "print(sorted({'torch', 'torchvision', 'optuna', 'PIL'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
