"""The jobs of a sweep: which runs they make, which wait for which, and what is refused before the first starts."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from lshfm.config.catalogue import register_teachers
from lshfm.config.compose import conf_folder
from lshfm.config.sweeping import asked
from lshfm.errors import InputError
from lshfm.sweeps.arms import Planned
from lshfm.sweeps.plan import plan
from tests.jobs import save_trained


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    register_teachers()
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/resnet.ckpt").touch()  # some teacher: whose it is, the job sees


def planned(command: str, *words: str) -> list[Planned]:
    return plan(command, asked(command, ["-m", *words]))


def needs(jobs: Sequence[Planned]) -> list[list[int]]:
    """For each job the numbers of those that it needs."""
    numbers = {job.last.checkpoint.absolute(): number for number, job in enumerate(jobs, 1)}
    return [sorted(numbers[path] for path in job.needs) for job in jobs]


def test_stage_2_waits_for_the_stage_1_of_its_seed() -> None:
    jobs = planned("mimic", "stage=1,2", "seed=0,1")
    assert [" ".join(job.words) for job in jobs] == [
        "stage=1 seed=0", "stage=1 seed=1", "stage=2 seed=0", "stage=2 seed=1",
    ]  # fmt: skip
    assert needs(jobs) == [[], [], [1], [2]]


def test_arms_that_align_alike_share_one_stage_1() -> None:
    """gamma and a key of stage 2 do not change stage 1; beta does."""
    jobs = planned("mimic", "loss.gamma=1,2", "stage2.lr=0.1,0.2")
    assert jobs[0].words == ("loss.gamma=1", "stage=1")
    assert {job.runs[0].folder for job in jobs} == {jobs[0].last.folder}
    assert needs(jobs) == [[], [1], [1], [1], [1]]
    assert len({job.last.folder for job in jobs}) == 5
    assert needs(planned("mimic", "loss.beta=1,2")) == [[], []]


@pytest.mark.slow
def test_a_shared_stage_1_is_the_run_that_both_would_make(tmp_path: Path) -> None:
    """With the recipe's loss for stage 1, which the arms' own losses are not."""
    recipe = ("experiment=voc2007_resnet18_mimic", f"dataset.root={tmp_path}", "loss=l2,lsh")
    first, *arms = planned("mimic", *recipe)
    assert first.settings == {"stage": "1"}
    assert {arm.runs[0].folder for arm in arms} == {first.last.folder}
    assert first.last.results_keys() == arms[0].runs[0].results_keys()


@pytest.mark.slow
def test_a_missing_teacher_is_trained_first_if_asked() -> None:
    jobs = planned("mimic", "loss.beta=1,2", "teacher=resnet14", "sweep.teacher.epochs=3", "output_dir=o")
    assert jobs[0].command == "train"
    assert jobs[0].words == ("dataset=shapes", "model=resnet14", "output_dir=o", "epochs=3")
    assert needs(jobs) == [[], [1], [1]]


def test_a_student_of_the_sweep_can_be_a_teacher_in_it() -> None:
    with conf_folder():
        save_trained("teacher", arch="resnet14")
    alone = ("student=resnet8", "stage=2", "student.init=none")
    (student,) = planned("mimic", "teacher=teacher", *alone)
    name = student.last.checkpoint.stem
    jobs = planned("mimic", f"teacher={name},teacher", *alone)
    assert [job.settings["teacher"] for job in jobs] == ["teacher", name]
    assert needs(jobs) == [[], [1]]
    assert "shapes_resnet8_resnet8" in jobs[1].last.folder.name  # called as the network that it will be


def test_a_job_can_start_where_another_one_ended() -> None:
    (first,) = planned("mimic", "stage=2", "student.init=none")
    jobs = planned("mimic", "stage=2", f"student.init={first.last.checkpoint.stem},none")
    assert [job.settings["student.init"] for job in jobs] == ["none", first.last.checkpoint.stem]
    assert needs(jobs) == [[], [1]]


def test_a_run_is_made_once() -> None:
    """Stage 1 knows no gamma: both of its jobs are one run."""
    jobs = planned("mimic", "stage=1,2", "loss.gamma=1,2")
    assert [job.settings["stage"] for job in jobs] == ["1", "2", "2"]
    assert needs(jobs) == [[], [1], [1]]


def test_a_sweep_over_epochs_plans_each_run_for_its_own() -> None:
    assert [job.words[-1] for job in planned("train", "epochs=2,3")] == ["take_over=false"] * 2
    assert planned("train", "epochs=2", "seed=0,1")[0].words == ("epochs=2", "seed=0")


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        ("train", ["lr=0.1,abc"], "job 2 of 2: lr=abc: lr=abc: must be a number"),
        ("train", ["sede=0,1"], "sede: no such key or group (did you mean 'seed'?)"),
        ("train", ["model=resnet8,resnet9"], "model=resnet9: no such model"),
        ("train", ["name=a", "lr=1,2"], "job 2 of 2: lr=2: would be the same run as job 1 of 2: lr=1"),
        ("train", ["lr=1,2", "model.weights=nowhere.pth"], "job 1 of 2: lr=1: model.weights=nowhere.pth"),
        ("mimic", ["teacher=nowhere.ckpt", "seed=0,1"], "teacher=nowhere.ckpt"),
        ("mimic", ["stage=1,2", "lr=0.1,0.2"], "several stages 1 of this sweep fit"),
        ("mimic", ["loss=l2,lshl2", "loss.hash_num=8"], "loss.hash_num: no key of what is chosen beside it"),
    ],
)
def test_what_is_wrong_anywhere_is_said_before_the_first_job(command: str, words: list[str], message: str) -> None:
    with pytest.raises(InputError) as caught:
        planned(command, *words)
    assert message in str(caught.value)


def test_many_jobs_read_no_file_of_conf_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Setting keys needs no composition of Hydra's, which takes a tenth of a second."""
    composed: list[object] = []
    import hydra

    compose = hydra.compose
    monkeypatch.setattr(hydra, "compose", lambda *a, **k: composed.append(a) or compose(*a, **k))
    assert len(planned("train", "lr=0.01,0.02,0.03", "seed=range(0,4)")) == 12
    assert len(composed) <= 4
