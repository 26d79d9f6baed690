"""The jobs of a sweep: their commands, the runs they make, and which waits for which."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from lshfm.config.compose import hydra_ready
from lshfm.config.early import train_command
from lshfm.config.launch import explained
from lshfm.config.schema import Mimic
from lshfm.config.stages import fitting, words_of_stage1
from lshfm.config.sweep import sweeps_over_epochs
from lshfm.config.sweeping import Arm, Asked, as_typed, flags_of, title
from lshfm.config.words import folders_of
from lshfm.console import logger
from lshfm.errors import InputError
from lshfm.sweeps.arms import Planned, Run, named_files, planned, refuse_clash, require_files, teacher_path

OF_THE_MACHINE = ("output_dir", "checkpoint_dir", "workers", "log_every", "checkpoint_minutes", "precision")


def plan(command: str, asked: Asked) -> list[Planned]:
    """The jobs of a grid, each after those that it needs. Raises InputError for the first word that is wrong."""
    with hydra_ready(folders_of(asked.words)), explained(command):
        jobs = _distinct(_composed(command, [_lasting(asked, arm) for arm in asked.arms]))
        if command == "mimic":
            teachers = _teachers(jobs, asked) if asked.settings.teacher else []
            jobs = [*teachers, *_with_shared_stages(jobs)]
        jobs = [replace(job, needs=frozenset(_needs(job, jobs))) for job in jobs]
        for number, job in enumerate(jobs, 1):
            if not job.needs - {run.checkpoint.absolute() for run in job.runs}:
                with _named(number, len(jobs), job.settings):
                    require_files(job)
    return _in_order(jobs)


def plan_trial(command: str, asked: Asked, words: Sequence[str], settings: Mapping[str, str]) -> Planned:
    """The job of a search's trial. Raises InputError."""
    with hydra_ready(folders_of(asked.words)), explained(command):
        arm = _lasting(asked, Arm(asked.with_words(words), settings))
        return planned(command, arm.words, settings, {})


def _lasting(asked: Asked, arm: Arm) -> Arm:
    """An arm, whose run is planned for its own number of epochs where the sweep is over several."""
    is_over_epochs = sweeps_over_epochs(["-m", *asked.words])
    return replace(arm, words=(*arm.words, "take_over=false")) if is_over_epochs else arm


@contextmanager
def _named(number: int, total: int, settings: Mapping[str, str]) -> Iterator[None]:
    """Errors of the block say which job they are of."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{_title(number, total, settings)}: {error}") from error


def _title(number: int, total: int, settings: Mapping[str, str]) -> str:
    return f"job {number} of {total}: {title(settings)}".removesuffix(": ")


def _composed(command: str, arms: Sequence[Arm]) -> list[Planned]:
    """The jobs of all arms; those whose teacher another arm makes come after that one."""
    done: dict[int, Planned] = {}
    titles: dict[Path, str] = {}
    waiting = dict(enumerate(arms, 1))
    while waiting:
        before = len(waiting)
        errors: list[InputError] = []
        for number, arm in list(waiting.items()):
            try:
                with _named(number, len(arms), arm.settings):
                    done[number] = planned(command, arm.words, arm.settings, titles)
            except InputError as error:
                errors.append(error)
                if not _may_come(arm, waiting):
                    raise
                continue
            titles |= {run.checkpoint.absolute(): run.title for run in done[number].runs}
            del waiting[number]
        if len(waiting) == before:
            raise errors[0]
    return [done[number] for number in sorted(done)]


def _may_come(arm: Arm, waiting: Mapping[int, Arm]) -> bool:
    """Whether another arm may still make the teacher that this one lacks."""
    return "teacher" in arm.settings and len(waiting) > 1


def _distinct(jobs: Sequence[Planned]) -> list[Planned]:
    """The jobs without those that are the run of another one. Raises InputError where they would overwrite it."""
    kept: dict[Path, tuple[int, Planned]] = {}
    for number, job in enumerate(jobs, 1):
        there = kept.setdefault(job.last.folder, (number, job))
        if there[1] is not job:
            mine, its = (_title(n, len(jobs), each.settings) for n, each in ((number, job), there))
            refuse_clash(job, there[1], mine, its)
            logger.info("%s is the same run as %s", mine, its)
    return [job for _, job in kept.values()]


def _with_shared_stages(jobs: Sequence[Planned]) -> list[Planned]:
    """The jobs, with a stage 1 that several of them would make as a job of its own in front of them."""
    makers = {job.last.checkpoint for job in jobs}
    found: list[Planned] = []
    for job in jobs:
        first = job.runs[0].checkpoint
        sharing = [other for other in jobs if other.is_both and other.runs[0].checkpoint == first]
        if job.is_both and len(sharing) > 1 and first not in makers:
            makers.add(first)
            found.append(_stage1_of(job, sharing))
        found.append(job)
    return found


def _stage1_of(job: Planned, sharing: Sequence[Planned]) -> Planned:
    settings = job.last.job.settings
    assert isinstance(settings, Mimic)
    overrides = words_of_stage1(settings, job.overrides)
    common = {key: value for key, value in job.settings.items() if all(s.settings[key] == value for s in sharing)}
    words = (*flags_of(job.words), *as_typed(overrides))
    return Planned("mimic", words, {**common, "stage": "1"}, job.runs[:1], tuple(overrides))


def _teachers(jobs: Sequence[Planned], asked: Asked) -> list[Planned]:
    """The training of each teacher that a job looks for and does not find."""
    found: dict[tuple[str, ...], Planned] = {}
    for job in jobs:
        settings = job.last.job.settings
        assert isinstance(settings, Mimic)
        if settings.teacher.path:
            continue
        changed = {key: value for key, value in job.last.job.changed.items() if key in OF_THE_MACHINE}
        machine = [f"{key}={value}" for key, value in changed.items()]
        words = (*flags_of(job.words), *train_command(job.last.job)[2:], *machine, *asked.teacher)  # type: ignore[arg-type]
        if words not in found:
            found[words] = planned("train", words, {"teacher": settings.teacher.title}, {})
    return [teacher for teacher in found.values() if not _is_there(teacher)]


def _is_there(teacher: Planned) -> bool:
    """Whether the teacher lies in the folder of checkpoints, trained by another command."""
    from lshfm.runs.checkpoint import checkpoints, same_network  # brings torch

    run = teacher.last
    settings = run.job.settings
    assert not isinstance(settings, Mimic)
    return any(
        path != run.checkpoint
        and content.get("command", "train") == "train"
        and same_network(content, settings.model.option, settings.model.design)
        and content["dataset"]["values"]["name"] == settings.dataset.name
        for path, content in checkpoints(run.checkpoint.parent)
    )


def _needs(job: Planned, jobs: Sequence[Planned]) -> set[Path]:
    """The checkpoints of other jobs that a job reads."""
    others = {run.checkpoint.absolute(): other for other in jobs if other is not job for run in [other.last]}
    reads = named_files(job) | {run.checkpoint.absolute() for run in job.runs[:-1]}
    settings = job.last.job.settings
    if isinstance(settings, Mimic):
        reads |= _teachers_read(settings, jobs) | {run.checkpoint.absolute() for run in _stage1_read(job, jobs)}
    return reads & others.keys()


def _teachers_read(settings: Mimic, jobs: Sequence[Planned]) -> set[Path]:
    """Where a network is named as the teacher: the training of it in this sweep."""
    if teacher_path(settings):
        return set()
    teachers = [job for job in jobs if job.command == "train" and job.last.title == settings.teacher.title]
    return {job.last.checkpoint.absolute() for job in teachers}


def _stage1_read(job: Planned, jobs: Sequence[Planned]) -> list[Run]:
    """The stage 1 in the sweep that a stage 2 alone would find for itself. Raises InputError where several fit."""
    settings = job.last.job.settings
    assert isinstance(settings, Mimic)
    if job.is_both or settings.is_stage1 or settings.student.projection is False or settings.student.init:
        return []
    candidates = [other.last for other in jobs if other is not job and _aligns_for(other.last, settings)]
    best = fitting(candidates, settings, _about)
    if len(best) > 1:
        listed = "\n".join(f"  {run.checkpoint.stem}" for run in best)
        raise InputError(
            f"{title(job.settings)}: several stages 1 of this sweep fit:\n{listed}\n"
            "Without stage= each stage 2 has its own"
        )
    return best


def _aligns_for(run: Run, settings: Mimic) -> bool:
    first = run.job.settings
    return (
        isinstance(first, Mimic)
        and first.is_stage1
        and (first.student.option, first.student.design) == (settings.student.option, settings.student.design)
        and first.dataset == settings.dataset
        and (first.teacher.option, first.teacher.path) == (settings.teacher.option, settings.teacher.path)
    )


def _about(run: Run) -> tuple[str, int]:
    settings = run.job.settings
    return settings.loss.title, settings.seed


def _in_order(jobs: Sequence[Planned]) -> list[Planned]:
    """The jobs, each after those that it needs; otherwise as they were. Raises InputError for a circle."""
    ordered: list[Planned] = []
    waiting, made = list(jobs), set[Path]()
    theirs = {run.checkpoint.absolute() for job in jobs for run in [job.last]}
    while waiting:
        ready = next((job for job in waiting if job.needs & theirs <= made), None)
        if ready is None:
            raise InputError(f"{title(waiting[0].settings)}: needs a checkpoint of a job that needs one of its own")
        ordered.append(ready)
        made.add(ready.last.checkpoint.absolute())
        waiting.remove(ready)
    return ordered
