"""Run folders as lshfm runs sees them: states, numbers, filters, and what could go."""

import fcntl
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lshfm.errors import InputError
from lshfm.runs import listing
from lshfm.runs.clean import KINDS, removable, remove
from lshfm.runs.filters import in_order, matching
from lshfm.runs.listing import Listed, State, differing, listed, numbers, read_run

EPOCH = {"version": 2, "kind": "epoch", "epoch": 2, "metric": "mAP", "score": 30.0}
STEP = {"version": 2, "kind": "step", "epoch": 3, "step": 1, "lr": 0.1, "bce": 0.5}
SETTINGS = {"dataset": "shapes", "epochs": 3, "lr": 0.1, "seed": 0, "loss": "bce", "dataset.holdout": 0.0}


def make(root: Path, name: str, *, command: str = "train", finished: bool = True, **settings: Any) -> Path:
    """A run folder as training leaves it, but for the checkpoints' content."""
    path = root / command / name
    path.mkdir(parents=True)
    whole = SETTINGS | {key.replace("__", "."): value for key, value in settings.items()}
    (path / "identity.json").write_text(json.dumps(whole))
    (path / "metrics.jsonl").write_text(f"{json.dumps(EPOCH)}\n{json.dumps(STEP)}\n{{half")
    (path / "log.txt").write_text("2026-11-27 04:05:40,226 INFO all is well\n")
    (path / "last.ckpt").write_bytes(b"x" * 100)
    (path / ".lock").touch()
    if finished:
        results = {
            "version": 2,
            "metric": "mAP",
            "score": 40.0 + whole["seed"],
            "report": {"mAP": 40.0},
            "history": [{"epoch": 3}],
        }
        (path / "results.json").write_text(json.dumps(results | {"name": name}))
    return path


@contextmanager
def held(path: Path) -> Iterator[None]:
    """As long as a run is at work in a folder."""
    with (path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def test_states(tmp_path: Path) -> None:
    make(tmp_path, "done")
    stopped = make(tmp_path, "stopped", finished=False)
    failed = make(tmp_path, "failed", finished=False)
    (failed / "log.txt").write_text(
        "2026-11-27 04:05:40,226 INFO fine\n2026-11-27 04:05:41,226 ERROR the loss is NaN\nwith more lines\n"
    )
    damaged = make(tmp_path, "damaged")
    (damaged / "results.json").write_text("{")
    (tmp_path / "train/notes").mkdir()
    busy = make(tmp_path, "x_stage2", command="mimic", finished=False)
    with held(busy):
        found = {run.name: run for run in listed(tmp_path)}
    assert {name: str(run.state) for name, run in found.items()} == {
        "done": "finished", "stopped": "unfinished", "failed": "failed", "damaged": "damaged", "notes": "foreign",
        "x_stage2": "running",
    }  # fmt: skip
    assert (found["done"].score, found["done"].epoch, found["done"].epochs) == (40.0, 3, 3)
    assert (found["stopped"].score, found["stopped"].epoch, found["stopped"].metric) == (30.0, 2, "mAP")
    assert found["failed"].note == "the loss is NaN"
    assert "is damaged" in str(found["damaged"].note)
    assert found["x_stage2"].stage == "2"
    assert read_run(stopped, "train").state is State.UNFINISHED  # the look has left no lock behind


def test_a_run_that_went_on_after_an_error_has_not_failed(tmp_path: Path) -> None:
    path = make(tmp_path, "a", finished=False)
    (path / "log.txt").write_text(
        "2026-11-27 04:05:41,226 ERROR no memory\n2026-11-27 05:05:41,226 INFO stopped by SIGTERM\n"
    )
    assert read_run(path, "train").state is State.UNFINISHED


def test_nothing_large_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fixed number of small files a run, whatever lies there; of a growing file only its end."""
    for number in range(5):
        path = make(tmp_path, f"run{number}", finished=number < 3)
    with (path / "metrics.jsonl").open("a") as file:
        file.write("x" * 10**6 + f"\n{json.dumps(EPOCH | {'epoch': 7})}\n")
    opened: Counter[str] = Counter()
    original = Path.open

    def counted(self: Path, *arguments: Any, **keywords: Any) -> Any:
        opened[self.name] += 1
        return original(self, *arguments, **keywords)

    monkeypatch.setattr(Path, "open", counted)
    assert [run.epoch for run in listed(tmp_path)] == [3, 3, 3, 2, 7]
    assert opened == {"identity.json": 5, ".lock": 5, "results.json": 3, "metrics.jsonl": 2, "log.txt": 2}
    assert len(listing._end(path / "metrics.jsonl")) == listing.END


def test_settings_that_differ_are_those_within_a_kind_of_run(tmp_path: Path) -> None:
    make(tmp_path, "a")
    make(tmp_path, "b", seed=1, data__train="another digest")
    make(tmp_path, "c", dataset="voc2007", lr=0.5)  # alone on its data set
    make(tmp_path, "old", clip_grad=None)  # what an older version did not have, and is off
    found = {path.name: values for path, values in differing(listed(tmp_path)).items()}
    assert found == {"a": {"seed": 0}, "b": {"seed": 1}, "c": {}, "old": {"seed": 0}}


@pytest.fixture
def runs(tmp_path: Path) -> list[Listed]:
    for number, lr in enumerate((0.1, 0.02, 0.3)):
        make(tmp_path, f"r{number}", seed=number, lr=lr, loss=["bce", "asl", "bce"][number], finished=number < 2)
    return listed(tmp_path)


@pytest.mark.parametrize(
    ("where", "names"),
    [
        ("", "r0 r1 r2"),
        ("state=finished", "r0 r1"),
        ("lr=0.1", "r0"),
        ("lr>=0.1,loss=bce", "r0 r2"),
        ("lr<0.1", "r1"),
        ("loss!=bce", "r1"),
        ("name=*2", "r2"),
        ("score>40", "r1"),
        ("holdout=0", "r0 r1 r2"),
        ("dataset.holdout=0.0, seed=2", "r2"),
        ("epochs=3", "r0 r1 r2"),
    ],
)
def test_where(runs: list[Listed], where: str, names: str) -> None:
    assert " ".join(run.name for run in matching(runs, where)) == names


@pytest.mark.parametrize(
    ("where", "message"),
    [("lr", "takes KEY=VALUE"), ("lt=0.1", "no run has such a key (did you mean 'lr'?)"), ("lr>a", "a is no number")],
)
def test_what_is_wrong_with_a_filter(runs: list[Listed], where: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        matching(runs, where)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("key", "names"),
    [("score", "r1 r0 r2"), ("-score", "r2 r0 r1"), ("lr", "r1 r0 r2"), ("-lr", "r2 r0 r1"), ("loss", "r1 r0 r2")],
)
def test_sort(runs: list[Listed], key: str, names: str) -> None:
    assert " ".join(run.name for run in in_order(runs, key)) == names


def test_what_could_go(tmp_path: Path) -> None:
    make(tmp_path, "short", epochs=2)
    make(tmp_path, "long")
    stopped = make(tmp_path, "stopped", finished=False, seed=1)
    busy = make(tmp_path, "busy", finished=False, seed=2)
    (tmp_path / "train/foreign").mkdir()
    with held(busy):
        found = removable(listed(tmp_path), list(KINDS))
    assert {(each.kind, each.run.name) for each in found} == {
        ("superseded", "short"), ("last", "long"), ("unfinished", "stopped"),
    }  # fmt: skip
    assert [each.bytes for each in found if each.kind == "last"] == [100]
    with held(stopped):
        assert [remove(each) for each in found if each.kind == "unfinished"] == [False]
    assert stopped.is_dir()
    assert all(remove(each) for each in found)
    assert sorted(path.name for path in (tmp_path / "train").iterdir()) == ["busy", "foreign", "long"]
    assert not (tmp_path / "train/long/last.ckpt").exists()
    assert (tmp_path / "train/long/results.json").exists()


def test_numbers_of_a_report_are_the_single_ones() -> None:
    report = {
        "mAP": 1.0,
        "mAPs": {"voc": 2.0},
        "ap": {"cat": {"voc": 3.0}},
        "by_class": [{"p": 1}],
        "none": None,
        "is": True,
    }
    assert numbers(report) == {"mAP": 1.0, "mAPs.voc": 2.0}
