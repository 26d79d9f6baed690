"""Sweeps whose jobs a launcher of Hydra's runs, such as SLURM's: the same plan, and the same summary."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lshfm import __version__
from lshfm.config.sweeping import asked, for_hydra, is_of_hydra, title
from lshfm.errors import InputError, LshfmError
from lshfm.runs.sweep import JobState, SweepJob, SweepRecord
from lshfm.sweeps.arms import Planned
from lshfm.sweeps.start import folder_of, job_of, planned_jobs, with_state
from lshfm.sweeps.summary import finish, show_summary


@contextmanager
def launched(command: str, words: Sequence[str], typed: Sequence[str]) -> Iterator[list[str]]:
    """A sweep whose jobs a launcher of Hydra's runs, while the block lasts: gives the words for Hydra, and a summary.

    Raises InputError for jobs that would have to wait for each other, and RunFailed as `finish` does.
    """
    sweep = asked(command, [word for word in words if not is_of_hydra(word)])
    jobs = planned_jobs(command, sweep)
    if waiting := next((job for job in jobs if job.needs), None):
        raise InputError(
            f"{title(waiting.settings)}: needs a checkpoint of another job, and a launcher starts all at once: "
            "sweep.dry_run=true without it prints the commands in their order"
        )
    folder = folder_of(command, sweep, jobs)
    has_folder = any(word.startswith("hydra.sweep.dir=") for word in words)
    try:
        yield [*for_hydra(words), *([] if has_folder else [f"hydra.sweep.dir='{folder}'"])]
    except LshfmError:
        if any(run.folder.is_dir() for job in jobs for run in job.runs):
            show_summary(_found_by(command, folder, jobs, typed), folder)
        raise
    finish(_found_by(command, folder, jobs, typed), folder)


def _found_by(command: str, folder: Path, jobs: Sequence[Planned], typed: Sequence[str]) -> SweepRecord:
    """The record of jobs that a launcher has run, written down."""
    record = SweepRecord(
        name=folder.name, command=command, command_line=tuple(typed), lshfm=__version__,
        jobs=tuple(_found(job_of(number, job, folder, {}), folder) for number, job in enumerate(jobs, 1)),
    )  # fmt: skip
    record.write(folder)
    return record


def _found(job: SweepJob, folder: Path) -> SweepJob:
    """The job of a launcher in the state that its runs are in."""
    finished = with_state(job, job.to(JobState.FINISHED), folder)
    return finished if finished.state is JobState.FINISHED else job.to(JobState.FAILED, error="did not finish")
