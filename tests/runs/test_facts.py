"""What is read of a run's folder, whatever lies in it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lshfm.errors import InputError
from lshfm.report.facts import FAILED, FINISHED, FOREIGN, UNFINISHED
from lshfm.runs.facts import BEFORE, read_run
from lshfm.runs.finding import find_runs
from lshfm.runs.sweep import JobState, SweepJob, SweepRecord
from lshfm.runs.told import published_score

SAMPLES = Path(__file__).resolve().parents[1] / "samples"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished student's folder, as an older version left it."""
    source = next(path.parent for path in sorted((SAMPLES / "v2/outputs/mimic").glob("*stage2/results.json")))
    return Path(shutil.copytree(source, tmp_path / "student_stage2"))


def test_a_finished_run(folder: Path) -> None:
    run = read_run(folder)
    told = json.loads((folder / "results.json").read_text())
    assert (run.state, run.command, run.stage, run.score) == (FINISHED, "mimic", "2", told["score"])
    assert run.teacher
    assert run.curves["score"]
    assert run.mimicry["angle"] == told["report"]["mimicry"]["angle"]
    assert run.losses
    assert set(run.losses) <= run.curves.keys()


def test_the_student_before_its_first_step_is_epoch_0(folder: Path) -> None:
    np.savez(folder / BEFORE, ids=["a", "b"], angle=[80.0, 90.0], relative_length=[1.0, 3.0], equal_bits=[0.25, 0.75])
    run = read_run(folder)
    first = {name: run.curves[name][0] for name in ("angle", "length", "hash agreement")}
    assert first == {"angle": (0.0, 85.0), "length": (0.0, 2.0), "hash agreement": (0.0, 50.0)}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("results.json", b"{"), ("results.json", b"[1]"), ("results.json", b'{"version": 9}'),
        ("results.json", b"[" * 10**5), ("config.yaml", b"- a"), ("config.yaml", b"\xff\xfe{"),
        ("identity.json", b"nothing"), ("identity.json", b"[" * 10**5), ("predictions.npz", b"PK\x03\x04"),
        ("metrics.jsonl", b'{"version": 99}'),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named_and_the_rest_is_read(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    run = read_run(folder)
    assert any(name in text for text in run.missing)
    assert run.command == "mimic"
    assert run.state == (UNFINISHED if name == "results.json" else FINISHED)


def test_a_pickle_among_the_arrays_is_not_opened(folder: Path) -> None:
    np.savez(folder / "predictions.npz", ids=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert "predictions.npz is damaged" in read_run(folder).missing


def test_unfinished_failed_and_foreign(folder: Path, tmp_path: Path) -> None:
    (folder / "results.json").unlink()
    assert read_run(folder).state == UNFINISHED
    log = "2026-11-27 03:55:00,123 INFO $ lshfm mimic name=a\n2026-11-27 03:56:00,123 ERROR the loss is not finite\n"
    (folder / "log.txt").write_text(f"{log}and more\n")
    run = read_run(folder)
    assert (run.state, run.ending, run.command_line) == (FAILED, "the loss is not finite", ("lshfm", "mimic", "name=a"))
    (folder / "log.txt").write_text(f"{log}2026-11-27 03:57:00,123 INFO begun again\n")
    assert read_run(folder).state == UNFINISHED
    (tmp_path / "photos").mkdir()
    foreign, absent = read_run(tmp_path / "photos"), read_run(tmp_path / "gone", "job 2 failed")
    assert (foreign.state, foreign.missing) == (FOREIGN, ("not a run of lshfm",))
    assert absent.missing == ("no such folder", "job 2 failed")


def test_runs_by_folder_glob_name_and_sweep(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runs = Path("outputs/mimic")
    for name in ("a_stage1", "a_stage2", "b_stage2"):
        shutil.copytree(folder, runs / name)
    jobs = (
        SweepJob(number=1, command=("lshfm", "mimic"), runs=("../../mimic/a_stage1", "../../mimic/a_stage2")),
        SweepJob(number=2, command=("lshfm", "mimic"), runs=("../../mimic/c",), state=JobState.FAILED, error="NaN"),
    )
    sweep = Path("outputs/sweeps/night")
    sweep.mkdir(parents=True)
    SweepRecord(name="night", command="mimic", command_line=("lshfm",), jobs=jobs).write(sweep)

    def found(*words: str) -> list[str]:
        return [each.path.name for each in find_runs(words)]

    assert found("outputs") == ["a_stage1", "a_stage2", "b_stage2"]
    assert found("outputs/mimic/*_stage2", "a_stage2") == ["a_stage2", "b_stage2"]
    assert found("a") == found("mimic/a") == ["a_stage1", "a_stage2"]
    assert found("mimic/*_stage1", "sweeps/night") == ["a_stage1", "a_stage2", "c"]
    assert found("night") == found("outputs/sweeps/night") == ["a_stage1", "a_stage2", "c"]
    assert [each.note for each in find_runs(["night"])] == ["", "", "job 2 of the sweep: failed, NaN"]
    with pytest.raises(InputError, match=r"b_stage3: no run folder, .*did you mean 'b_stage2'"):
        find_runs(["b_stage3"])


def test_the_published_number_is_that_of_the_recipe_s_loss() -> None:
    recipe = {"recipe": {"expected_mAP": {"lshl2": 93.17, "bce": 91}}}
    assert published_score(recipe | {"loss": {"name": "lshl2"}, "stage": {"name": "2"}}) == 93.17
    assert published_score(recipe | {"loss": {"name": "lshl2"}, "stage": {"name": "1"}}) is None  # nothing is evaluated
    assert published_score(recipe | {"loss": {"name": "bce"}}) == 91.0
    assert published_score({"recipe": None, "loss": {"name": "bce"}}) is None
    assert published_score({"recipe": "x", "loss": 1}) is None
