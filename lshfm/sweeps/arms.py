"""One job of a sweep before it has a number: its settings, the runs that it makes, the files that it reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lshfm.config.changes import changes_results, flatten
from lshfm.config.checkpoint_names import checkpoint_file
from lshfm.config.compose import Job
from lshfm.config.early import require_starts, require_starts_of_mimic
from lshfm.config.keys import plain
from lshfm.config.orders import order
from lshfm.config.schema import Mimic, Train
from lshfm.config.sweeping import overrides_of
from lshfm.errors import InputError
from lshfm.runs.naming import mimic_name, train_name, used_in_stage

Settings = Train | Mimic


@dataclass(frozen=True)
class Run:
    """A run that a job makes, or finds finished."""

    job: Job[Train] | Job[Mimic]
    folder: Path
    checkpoint: Path

    @property
    def title(self) -> str:
        """The network that its checkpoint holds."""
        settings = self.job.settings
        return settings.student.title if isinstance(settings, Mimic) else settings.model.title

    def results_keys(self) -> dict[str, object]:
        """The settings that can change its numbers."""
        settings = self.job.settings
        flat = flatten(plain(settings))
        kept = {key: value for key, value in flat.items() if changes_results(settings.command, key)}
        if isinstance(settings, Mimic):
            return {key: value for key, value in kept.items() if used_in_stage(settings, key)}
        return kept


@dataclass(frozen=True)
class Planned:
    """A job with its runs, in the order that it makes them; `settings` tell it from the others."""

    command: str
    words: tuple[str, ...]
    settings: Mapping[str, str]
    runs: tuple[Run, ...]
    overrides: tuple[str, ...] = ()
    needs: frozenset[Path] = field(default=frozenset())  # checkpoints that other jobs of the sweep leave

    @property
    def last(self) -> Run:
        """The run whose numbers count."""
        return self.runs[-1]

    @property
    def is_both(self) -> bool:
        """Whether it aligns in stage 1 before it mimics in stage 2."""
        return len(self.runs) > 1


def planned(command: str, words: Sequence[str], settings: Mapping[str, str], titles: Mapping[Path, str]) -> Planned:
    """The job of a command line; titles: networks of checkpoints that are still to be made. Raises InputError.

    A Hydra is ready.
    """
    overrides = overrides_of(command, words)
    made = order(command, overrides, files=False)[0]
    jobs = made if isinstance(made, list) else [made]
    return Planned(command, tuple(words), settings, tuple(_run(job, titles) for job in jobs), tuple(overrides))


def _run(job: Job[Train] | Job[Mimic], titles: Mapping[Path, str]) -> Run:
    settings = job.settings
    name = mimic_name(job, _teacher_title(job, titles)) if isinstance(settings, Mimic) else train_name(job)  # type: ignore[arg-type]
    runs, checkpoints = Path(settings.output_dir).expanduser(), Path(settings.checkpoint_dir).expanduser()
    return Run(job, runs / settings.command / name, checkpoints / f"{name}.ckpt")


def _teacher_title(job: Job[Mimic], titles: Mapping[Path, str]) -> str:
    settings = job.settings
    path = teacher_path(settings)
    if path is None or settings.name:
        return settings.teacher.title
    if path.absolute() in titles:
        return titles[path.absolute()]
    require_starts_of_mimic(job)
    from lshfm.runs.checkpoint import Checkpoint  # brings torch, which most sweeps can wait for

    return (Checkpoint.open(path, job.folders).settings or settings.teacher).title


def teacher_path(settings: Mimic) -> Path | None:
    """The teacher's file; None where a network is named, whose file is looked for."""
    given = settings.teacher.path
    return checkpoint_file(str(given), Path(settings.checkpoint_dir).expanduser()) if given else None


def named_files(job: Planned) -> set[Path]:
    """Checkpoints that a job's settings name, there or not."""
    files: set[Path] = set()
    for run in job.runs:
        settings = run.job.settings
        folder = Path(settings.checkpoint_dir).expanduser()
        if isinstance(settings, Mimic):
            starts = settings.student.weights if settings.is_stage1 else settings.student.init
            files |= {path.absolute() for path in [teacher_path(settings)] if path}
        else:
            starts = settings.model.weights
        files |= {checkpoint_file(str(starts), folder).absolute()} if starts else set()
    return files


def require_files(job: Planned) -> None:
    """InputError for a file that the job's settings name and that is not there."""
    for run in job.runs:
        if isinstance(run.job.settings, Mimic):
            require_starts_of_mimic(run.job)
        else:
            require_starts(run.job)


def refuse_clash(job: Planned, other: Planned, title: str, its_title: str) -> None:
    """InputError for two jobs with other settings that would write the same run."""
    mine = job.last.results_keys()
    theirs = other.last.results_keys()
    differing = sorted(key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key))
    if differing:
        raise InputError(
            f"{title}: would be the same run as {its_title}, {job.last.folder}, with another {differing[0]}: "
            "leave name= out, or sweep over it too"
        )
