"""sweep.json: what is written is read again, and what cannot be read is named."""

import json
from pathlib import Path

import pytest

from lshfm.errors import InputError
from lshfm.runs.sweep import JobState, SweepJob, SweepRecord

JOBS = (
    SweepJob(
        number=1, command=("lshfm", "train", "seed=0"), settings={"seed": "0"}, runs=("../../train/a",),
        checkpoints=("../../../checkpoints/a.ckpt",), log="001.log", state=JobState.FINISHED, device="CPU",
    ),
    SweepJob(number=2, command=("lshfm", "train", "seed=1"), runs=("../../train/b",), needs=(1,), error="broken"),
)  # fmt: skip
RECORD = SweepRecord(name="x", command="train", command_line=("lshfm", "train", "-m", "seed=0,1"), jobs=JOBS)


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    RECORD.write(tmp_path)
    assert SweepRecord.read(tmp_path) == RECORD


def test_run_folders_are_found_from_the_sweeps_folder() -> None:
    """Folders may be moved together: paths are from one to the other."""
    assert RECORD.run_folders(Path("outputs/sweeps/x")) == [Path("outputs/train/a"), Path("outputs/train/b")]


def test_a_job_is_replaced_by_its_number() -> None:
    changed = RECORD.with_job(JOBS[1].to(JobState.FAILED, error="first line"))
    assert [job.state for job in changed.jobs] == [JobState.FINISHED, JobState.FAILED]
    assert changed.jobs[0] is JOBS[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is damaged"),
        ('{"version": 1}', "is damaged"),
        ('{"version": 1, "name": "x", "command": "train", "command_line": [], "jobs": [{"state": "odd"}]}', "damaged"),
        ('{"version": 99, "jobs": []}', "newer lshfm"),
    ],
)
def test_what_cannot_be_read_is_refused_with_one_message(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "sweep.json").write_text(text)
    with pytest.raises(InputError, match=message):
        SweepRecord.read(tmp_path)


def test_entries_of_later_versions_are_let_pass(tmp_path: Path) -> None:
    RECORD.write(tmp_path)
    entry = json.loads((tmp_path / "sweep.json").read_text()) | {"more": 1}
    entry["jobs"][0]["more"] = 2
    (tmp_path / "sweep.json").write_text(json.dumps(entry))
    assert SweepRecord.read(tmp_path) == RECORD


def test_a_folder_without_one_is_no_sweep(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no folder of a sweep"):
        SweepRecord.read(tmp_path)
