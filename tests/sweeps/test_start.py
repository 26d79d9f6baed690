"""A sweep before its first job: its folder, its lock, what it knows of an earlier call."""

import shlex
import sys
from pathlib import Path

import pytest

from lshfm.config.catalogue import register_teachers
from lshfm.config.sweeping import asked
from lshfm.errors import InputError
from lshfm.runs.sweep import JobState, SweepRecord
from lshfm.sweeps import start as starting
from lshfm.sweeps.start import folder_of, planned_jobs, record_of
from tests.cli.conftest import here


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    register_teachers()


def place(*words: str) -> Path:
    sweep = asked("train", words)
    return folder_of("train", sweep, planned_jobs("train", sweep))


def record(*words: str, folder: Path = Path("outputs/sweeps/a")) -> SweepRecord:
    sweep = asked("train", ["-m", *words])
    return record_of("train", sweep, planned_jobs("train", sweep), folder, ["lshfm", "train", "-m", *words])


def finish(before: SweepRecord, *numbers: int, folder: Path = Path("outputs/sweeps/a")) -> None:
    """As if these jobs had finished, and the others had been killed."""
    folder.mkdir(parents=True, exist_ok=True)
    for job in before.jobs:
        before = before.with_job(job.to(JobState.FINISHED if job.number in numbers else JobState.RUNNING))
        for run, checkpoint in zip(job.runs, job.checkpoints, strict=True):
            (folder / run).mkdir(parents=True, exist_ok=True)
            (folder / checkpoint).parent.mkdir(exist_ok=True)
            (folder / run / "results.json").touch()
            (folder / checkpoint).touch()
    before.write(folder)


def states(found: SweepRecord) -> list[str]:
    return [str(job.state) for job in found.jobs]


def test_the_folder_is_that_of_the_words_but_for_the_sweeps_own() -> None:
    """So that the same command goes on, with more jobs side by side, too."""
    folder = place("-m", "lr=0.1,0.2", "seed=0,1")
    assert folder.parent == Path("outputs/sweeps")
    assert folder.name.startswith("train_lr_seed_")
    assert place("-m", "lr=0.1,0.2", "seed=0,1", "sweep.jobs=2", "gpus=[]") == folder
    assert place("-m", "lr=0.1,0.2", "seed=0,1", "epochs=3") != folder
    assert place("-m", "lr=1,2", "sweep.name=mine", "output_dir=o") == Path("o/sweeps/mine")
    with pytest.raises(InputError, match=r"sweep\.name=a/b: a name is"):
        place("-m", "lr=1,2", "sweep.name=a/b")


def test_what_finished_before_is_skipped_and_the_rest_is_done() -> None:
    finish(record("seed=0,1,2"), 1, 2)
    again = record("seed=0,1,2")
    assert states(again) == ["finished", "finished", "waiting"]
    Path(next(iter(Path("checkpoints").glob("*_s0*")))).unlink()
    assert states(record("seed=0,1,2")) == ["waiting", "finished", "waiting"]  # its checkpoint was taken away
    assert states(record("seed=1,5")) == ["finished", "waiting"]  # another grid under the same name


def test_a_finished_sweep_is_done_anew_if_it_is_told_to_overwrite() -> None:
    finish(record("seed=0,1", "overwrite=true"), 1)
    assert states(record("seed=0,1", "overwrite=true")) == ["finished", "waiting"]  # it goes on
    finish(record("seed=0,1", "overwrite=true"), 1, 2)
    assert states(record("seed=0,1", "overwrite=true")) == ["waiting", "waiting"]


def test_two_sweeps_of_one_name_at_once() -> None:
    folder = Path("outputs/sweeps/a")
    again = starting._occupied(folder)
    with starting._occupied(folder), pytest.raises(InputError, match="this sweep is running already"):
        again.__enter__()
    with starting._occupied(folder):
        pass


def test_a_dry_run_prints_commands_and_leaves_nothing(tmp_path: Path) -> None:
    said = here(tmp_path, "train", "-m", "lr=0.1,0.2", "dataset.cache_dir=a b", "sweep.dry_run=true").splitlines()
    assert [shlex.split(line) for line in said] == [
        ["lshfm", "train", f"lr={lr}", "dataset.cache_dir=a b"] for lr in ("0.1", "0.2")
    ]
    assert not list(tmp_path.iterdir())


def test_jobs_side_by_side_share_the_decode_workers_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(starting, "Process", lambda command, *_: commands.append(command))
    monkeypatch.setattr(starting.places, "num_cores", lambda: 8)
    for words in (["sweep.jobs=2"], ["sweep.jobs=2", "workers=1"], []):
        sweep = asked("train", ["-m", "seed=0", "gpus=[]", *words])
        slots = starting.places.slots(sweep.settings, sweep.gpus)
        starting._starter(sweep, Path("f"), slots)(record("seed=0").jobs[0], slots[-1])
    assert [command[2:] for command in commands] == [
        ["seed=0", "gpus=[]", "workers=4"], ["seed=0", "gpus=[]"], ["seed=0", "gpus=[]"],
    ]  # fmt: skip


def test_a_search_looks_at_the_test_split_only_if_told_to() -> None:
    pytest.importorskip("optuna")
    search = ("sweep=optuna", "lr=interval(0.1,1)")
    with pytest.raises(InputError, match="would choose by the test split"):
        planned_jobs("train", asked("train", [*search, "dataset.holdout=0", "select=last"]))
    planned_jobs("train", asked("train", [*search, "dataset.holdout=0", "allow_test=true"]))
    with pytest.raises(InputError, match="optimizer=lamb"):
        planned_jobs("train", asked("train", [*search, "optimizer=choice(sgd,lamb)"]))


def test_a_search_without_its_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match=r"pip install 'lshfm\[optuna\]'"):
        planned_jobs("train", asked("train", ["sweep=optuna", "lr=interval(0.1,1)"]))
