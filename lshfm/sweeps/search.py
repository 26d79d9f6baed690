"""A search with Optuna: it is asked for a trial's settings and told what came of them; its journal is one file."""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lshfm.config.ranges import Choice, Span
from lshfm.config.sweeping import Sweep
from lshfm.engine.lines import EpochLine
from lshfm.errors import InputError
from lshfm.runs.sweep import JobState, SweepJob, SweepRecord
from lshfm.sweeps.summary import number_of

JOURNAL = "optuna.journal"
Space = Mapping[str, Span | Choice]
Make = Callable[[int, Mapping[str, str]], SweepJob]


def optuna() -> Any:
    """The library. Raises InputError where it is missing."""
    try:
        import optuna as library
    except ImportError as error:
        raise InputError("sweep=optuna: the search is an extra: pip install 'lshfm[optuna]'") from error
    library.logging.set_verbosity(library.logging.ERROR)
    return library


class Search:
    """Makes the jobs of a search. make: a job of a number with these settings; folder: the sweep's."""

    def __init__(self, record: SweepRecord, folder: Path, sweep: Sweep, space: Space, make: Make) -> None:
        self._library, self._folder, self._sweep, self._space, self._make = optuna(), folder, sweep, space, make
        self._study = _study(self._library, folder, sweep, record.name)
        self._trials: dict[int, Any] = {}  # at work, by job
        self._twins: dict[tuple[str, ...], list[Any]] = {}  # trials with the settings of a job at work, by its runs
        self._runs = {job.runs: job for job in record.jobs if job.settings}
        self._take_up(record)

    def _take_up(self, record: SweepRecord) -> None:
        """The trials that were at work when the sweep ended; one without a job has never started."""
        states = self._library.trial.TrialState
        jobs = {job.number: job for job in record.jobs}
        for frozen in self._study.get_trials(states=(states.RUNNING,)):
            trial = self._library.trial.Trial(self._study, frozen._trial_id)
            number = frozen.user_attrs.get("job")
            if number in jobs and jobs[number].state is JobState.WAITING:
                self._trials[number] = trial
            elif number in jobs:
                self._trials[number] = trial
                self.tell(jobs[number])
            else:
                self._study.tell(trial, state=states.FAIL)

    def ask(self, number: int) -> SweepJob | None:
        """The next job; None once there were as many trials as asked for."""
        while len(self._study.get_trials(deepcopy=False)) < (self._sweep.trials or 0):
            trial = self._study.ask()
            trial.set_user_attr("job", number)
            job = self._make(number, self._settings(trial))
            known = self._runs.setdefault(job.runs, job)
            if known is job:
                self._trials[number] = trial
                return job
            if known.state in (JobState.WAITING, JobState.RUNNING):
                self._twins.setdefault(job.runs, []).append(trial)
            else:
                self._tell(trial, known)
        return None

    def _settings(self, trial: Any) -> dict[str, str]:
        try:
            return {name: _suggested(trial, name, values) for name, values in self._space.items()}
        except ValueError as error:  # other ranges than those that the journal began with
            raise InputError(
                f"{self._folder / JOURNAL} holds a search over other ranges ({error}): sweep.name=NAME begins another"
            ) from error

    def report(self, job: SweepJob, line: EpochLine) -> bool:
        """Take in the score after an epoch; whether the job is to end for it."""
        trial = self._trials.get(job.number)
        if trial is None or line.score is None:
            return False
        known = self._study._storage.get_trial(trial._trial_id).intermediate_values
        if line.epoch not in known:  # a job that goes on tells again what it told
            trial.report(line.score, line.epoch)
        return self._sweep.prune and bool(trial.should_prune())

    def tell(self, job: SweepJob) -> None:
        """Take in how a job ended; trials of the same settings came to the same."""
        self._runs[job.runs] = job
        for trial in (self._trials.pop(job.number, None), *self._twins.pop(job.runs, [])):
            if trial is not None:
                self._tell(trial, job)

    def _tell(self, trial: Any, job: SweepJob) -> None:
        states = self._library.trial.TrialState
        number = number_of(job, self._folder)
        value = None if number is None else number.score if number.held_out is None else number.held_out
        if job.state is JobState.PRUNED:
            self._study.tell(trial, state=states.PRUNED)
        elif value is None:
            self._study.tell(trial, state=states.FAIL)
        else:
            self._study.tell(trial, value)


class _NoLock:
    """The sweep's own lock keeps others out of its folder; a lock file of optuna's would outlive a kill."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None: ...


def _mend(journal: Path) -> None:
    """Cut off the half of a line that a killed sweep may have left: what follows it could not be read."""
    if journal.is_file() and not (text := journal.read_bytes()).endswith(b"\n"):
        journal.write_bytes(text[: text.rfind(b"\n") + 1])


def _study(library: Any, folder: Path, sweep: Sweep, name: str) -> Any:
    path = folder / JOURNAL
    _mend(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # optuna calls the journal, and the sampler for several workers, experimental
        file = library.storages.journal.JournalFileBackend(str(path), lock_obj=_NoLock())
        storage = library.storages.JournalStorage(file)
        study = library.create_study(
            storage=storage, study_name=name, direction="maximize", load_if_exists=True,
            pruner=library.pruners.MedianPruner() if sweep.prune else library.pruners.NopPruner(),
        )  # fmt: skip
        # Another seed for a search that goes on: it would draw again what it drew first.
        seed = sweep.seed + len(study.get_trials(deepcopy=False))
        study.sampler = library.samplers.TPESampler(seed=seed, constant_liar=True)
        return study


def _suggested(trial: Any, name: str, values: Span | Choice) -> str:
    """A value as a user would type it: four digits are enough."""
    if isinstance(values, Choice):
        return str(trial.suggest_categorical(name, values.values))
    if values.whole:
        step = int(values.step or 1)
        return str(trial.suggest_int(name, int(values.low), int(values.high), step=step, log=values.log))
    return f"{trial.suggest_float(name, values.low, values.high, step=values.step, log=values.log):.4g}"


def extremes(space: Space) -> list[dict[str, str]]:
    """Settings with which each value that can be named is there once: what to check before the first job."""
    ends = {name: _ends(values) for name, values in space.items()}
    first = {name: values[0] for name, values in ends.items()}
    return [first, *({**first, name: value} for name, values in ends.items() for value in values[1:])]


def _ends(values: Span | Choice) -> tuple[str, ...]:
    if isinstance(values, Choice):
        return values.values
    ends = (values.low, values.high)
    return tuple(str(int(end)) if values.whole else f"{end:.4g}" for end in ends)
