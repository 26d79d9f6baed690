"""A sweep from its command line to its summary."""

import hashlib
import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from lshfm import __version__
from lshfm.checks import require_writable
from lshfm.config.sweeping import Asked, asked, without_sweep
from lshfm.console import logger
from lshfm.errors import InputError, RunFailed, count
from lshfm.files.locks import locked
from lshfm.outcome import Terminated
from lshfm.runs.naming import checked_name, cut
from lshfm.runs.sweep import JobState, SweepJob, SweepRecord, paths_of
from lshfm.sweeps import slots as places
from lshfm.sweeps.arms import Planned
from lshfm.sweeps.plan import plan, plan_trial
from lshfm.sweeps.process import Process
from lshfm.sweeps.schedule import Schedule
from lshfm.sweeps.search import Search, extremes, optuna
from lshfm.sweeps.show import view
from lshfm.sweeps.slots import Slot
from lshfm.sweeps.summary import finish


def run(command: str, words: Sequence[str], typed: Sequence[str]) -> None:
    """Run the sweep of a command line, or go on with it. typed: the command line for the record.

    Raises InputError for what is wrong anywhere in the sweep before its first job starts, and RunFailed for jobs that
    failed, once all others are done.
    """
    words, typed = _as_before(words, typed)
    sweep = asked(command, words)
    jobs = planned_jobs(command, sweep)
    if sweep.settings.dry_run:
        print("\n".join(shlex.join(_command(job)) for job in jobs))
        return
    slots = places.slots(sweep.settings, sweep.gpus)
    folder = folder_of(command, sweep, jobs)
    require_writable(folder, "output_dir")
    with _occupied(folder):
        record = record_of(command, sweep, jobs, folder, typed)
        record.write(folder)
        _say(record, folder, slots)
        schedule = Schedule(record, folder, slots, _starter(sweep, folder, slots), answers=places.answers)
        if record.trials:
            schedule.search = Search(record, folder, sweep.settings, sweep.space, _maker(command, sweep, folder))
        try:
            with view(record) as schedule.view:
                record = schedule.run()
        except (KeyboardInterrupt, Terminated):
            logger.info("stopped; the same command goes on with %s", folder)
            raise
        finish(record, folder)


def _as_before(words: Sequence[str], typed: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """The command line; that of the sweep which sweep.name= names where nothing else is typed."""
    names = [word.partition("=")[2] for word in words if word.startswith("sweep.name=")]
    others = [word for word in without_sweep(words) if word not in ("-m", "--multirun")]
    if not names or any(not word.startswith("output_dir=") for word in others) or "sweep" in dict.fromkeys(words):
        return words, typed
    roots = [Path(word.partition("=")[2]).expanduser() for word in others] or [Path("outputs")]
    folder = roots[-1] / "sweeps" / names[-1]
    if not (folder / "sweep.json").is_file():
        return words, typed
    before = SweepRecord.read(folder).command_line
    return [*before[2:], *(word for word in words if word not in before)], before


def planned_jobs(command: str, sweep: Asked) -> list[Planned]:
    """The jobs of a grid; of a search the first one that it may ask for, all being checked. Raises InputError."""
    if not sweep.settings.trials:
        return plan(command, sweep)
    optuna()
    if sweep.settings.teacher:
        raise InputError("sweep.teacher= goes with a grid: train the teacher of a search first")
    first, *others = [_trial(command, sweep, settings) for settings in extremes(sweep.space)]
    settings = first.last.job.settings
    if not settings.dataset.holdout and not settings.allow_test:
        raise InputError(
            "sweep=optuna would choose by the test split, which flatters the result: leave dataset.holdout= out (0.1), "
            "or add allow_test=true"
        )
    return [first, *others] if sweep.settings.dry_run else [first]


def _trial(command: str, sweep: Asked, settings: Mapping[str, str]) -> Planned:
    return plan_trial(command, sweep, [f"{name}={value}" for name, value in settings.items()], settings)


def folder_of(command: str, sweep: Asked, jobs: Sequence[Planned]) -> Path:
    """The sweep's folder: of its name, else of one made from what is swept and all other words."""
    base = Path(jobs[-1].last.job.settings.output_dir).expanduser() / "sweeps"
    if sweep.settings.name:
        try:
            return base / checked_name(sweep.settings.name)
        except InputError as error:
            raise InputError(f"sweep.{error}") from error
    swept = list(dict.fromkeys(name for job in jobs for name in job.settings if job.command == command))
    digest = hashlib.sha256("\n".join(sorted(sweep.words)).encode()).hexdigest()[:6]
    return base / f"{cut('_'.join([command, *swept]), 60)}_{digest}"


@contextmanager
def _occupied(folder: Path) -> Iterator[None]:
    """Hold the sweep's folder while the block runs. Raises InputError if another process does."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise RunFailed(f"{error.strerror}: cannot write in {folder}") from error
    with lock:
        if not locked(lock.fileno(), folder / ".lock"):
            raise InputError(f"this sweep is running already, in {folder}; sweep.name=NAME makes it another one")
        yield


def record_of(command: str, sweep: Asked, jobs: Sequence[Planned], folder: Path, typed: Sequence[str]) -> SweepRecord:
    """The record to begin with: jobs that this sweep has finished before stay so."""
    before = {job.command: job for job in SweepRecord.read(folder).jobs} if (folder / "sweep.json").is_file() else {}
    is_search = sweep.settings.trials is not None
    if is_search:
        made = [_resumed(job) for job in before.values()]
    else:
        numbers = {job.last.checkpoint.absolute(): number for number, job in enumerate(jobs, 1)}
        made = [job_of(number, job, folder, numbers) for number, job in enumerate(jobs, 1)]
        is_anew = "overwrite=true" in sweep.words and all(job.state is JobState.FINISHED for job in before.values())
        made = made if is_anew else [with_state(job, before.get(job.command), folder) for job in made]
    return SweepRecord(
        name=folder.name, command=command, command_line=tuple(typed), jobs=tuple(made), trials=sweep.settings.trials,
        lshfm=__version__,
    )  # fmt: skip


def job_of(number: int, job: Planned, folder: Path, numbers: Mapping[Path, int]) -> SweepJob:
    """A planned job as the record has it, with paths from the sweep's folder. numbers: of jobs, by checkpoint."""
    return SweepJob(
        number=number,
        command=tuple(_command(job)),
        settings=dict(job.settings),
        runs=tuple(os.path.relpath(run.folder, folder) for run in job.runs),
        checkpoints=tuple(os.path.relpath(run.checkpoint, folder) for run in job.runs),
        epochs=tuple(run.job.settings.epochs for run in job.runs),
        needs=tuple(sorted(numbers[path] for path in job.needs)),
        log=f"{number:03d}.log",
    )


def _command(job: Planned) -> list[str]:
    return ["lshfm", job.command, *job.words]


def with_state(job: SweepJob, before: SweepJob | None, folder: Path) -> SweepJob:
    """The job, finished if the sweep saw it finish and what it left is there still."""
    if before is None or before.state is not JobState.FINISHED:
        return job
    runs, checkpoints = paths_of(folder, job.runs), paths_of(folder, job.checkpoints)
    is_there = all((run / "results.json").is_file() for run in runs) and all(path.is_file() for path in checkpoints)
    return replace(before, number=job.number, needs=job.needs, log=job.log) if is_there else job


def _resumed(job: SweepJob) -> SweepJob:
    """A search's job: what was told of it stays, and what was at work goes on."""
    is_open = job.state in (JobState.RUNNING, JobState.WAITING, JobState.STOPPED)
    return job.to(JobState.WAITING, error=None) if is_open else job


def _say(record: SweepRecord, folder: Path, slots: Sequence[Slot]) -> None:
    done = sum(job.state is JobState.FINISHED for job in record.jobs)
    devices = list(dict.fromkeys(slot.device for slot in slots))
    jobs = f"a search of {record.trials} trials" if record.trials else count(len(record.jobs), "job")
    side = f"{len(slots)} side by side" if len(slots) > 1 else "one at a time"
    share = f", {count(places.threads(slots), 'thread')} each" if len(slots) > 1 else ""
    finished = f", {done} of them finished" if done else ""
    where = "the CPU" if devices == ["CPU"] else ", ".join(devices)
    logger.info("sweep %s: %s%s, %s on %s%s", folder, jobs, finished, side, where, share)


def _starter(sweep: Asked, folder: Path, slots: Sequence[Slot]) -> Callable[[SweepJob, Slot], Process]:
    """How a job becomes a process: its command on a slot, with its share of the cores."""
    environment = places.environment(slots)
    has_workers = any(word.startswith("workers=") for word in sweep.words)
    workers = () if has_workers or len(slots) == 1 else (f"workers={places.threads(slots)}",)
    return lambda job, slot: Process([*job.command, *slot.words, *workers], folder / str(job.log), environment)


def _maker(command: str, sweep: Asked, folder: Path) -> Callable[[int, Mapping[str, str]], SweepJob]:
    """How the settings of a trial become a job."""
    return lambda number, settings: job_of(number, _trial(command, sweep, settings), folder, {})
