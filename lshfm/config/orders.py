"""A command's overrides as the arguments of its `run`: composed and checked before anything heavy is imported."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lshfm.config.checkpoint_names import checkpoint_file
from lshfm.config.compose import compose, peek
from lshfm.config.early import (
    refuse_pretrained,
    require_checkpoint,
    require_devices,
    require_input,
    require_label_loss,
    require_root,
    require_starts,
    require_starts_of_mimic,
    require_together,
)
from lshfm.config.evaluation import export_request, request
from lshfm.config.notes import published_groups, unused_recipes
from lshfm.config.schema import Check, Predict, Train
from lshfm.config.stages import plan

Words = Sequence[str]


def order(command: str, overrides: Words, typed: Words = (), *, files: bool = True) -> tuple[Any, ...]:
    """The arguments of the command's `run`.

    typed: the command line. files: look for the checkpoints that are named, too; jobs of a sweep may leave them to each
    other. Raises InputError.
    """
    return _ORDERS[command](overrides, typed, files)


def _train(overrides: Words, typed: Words, files: bool) -> tuple[Any, ...]:
    job = compose(Train, overrides, typed=typed)
    require_together(job.settings)
    require_devices(job.settings.gpus)
    refuse_pretrained("model", job.settings.model)
    require_root(job.settings.dataset)
    require_label_loss(job.settings.loss, "loss", job.settings.dataset)
    if files:
        require_starts(job)
    return job, published_groups(job.settings, overrides)


def _mimic(overrides: Words, typed: Words, files: bool) -> tuple[Any, ...]:
    jobs, notes = plan(overrides, typed)
    for job in jobs:
        require_together(job.settings)
    require_devices(jobs[-1].settings.gpus)
    refuse_pretrained("student", jobs[-1].settings.student)
    require_root(jobs[-1].settings.dataset)
    require_label_loss(jobs[-1].settings.label_loss, "label_loss", jobs[-1].settings.dataset)
    for job in jobs if files else ():
        require_starts_of_mimic(job)
    settings = jobs[-1].settings
    return jobs, [*notes, *unused_recipes(settings, overrides), *published_groups(settings, overrides)]


def _eval(overrides: Words, typed: Words, files: bool) -> tuple[Any, ...]:
    asked = request(overrides, typed)
    if files:
        require_checkpoint(asked.checkpoint, asked.named, str(peek("eval", overrides, "output_dir")))
    return (asked,)


def _check(overrides: Words, typed: Words, _files: bool) -> tuple[Any, ...]:
    job = compose(Check, overrides, typed=typed)
    require_root(job.settings.dataset)
    return (job,)


def _predict(overrides: Words, typed: Words, files: bool) -> tuple[Any, ...]:
    job = compose(Predict, overrides, typed=typed)
    settings = job.settings
    require_devices(settings.gpus)
    if files:
        path = checkpoint_file(settings.checkpoint, Path(settings.checkpoint_dir).expanduser())
        require_checkpoint(path, settings.checkpoint, settings.output_dir)
        require_input(settings.input)
    return (job,)


def _export(overrides: Words, typed: Words, files: bool) -> tuple[Any, ...]:
    asked = export_request(overrides, typed)
    if files:
        require_checkpoint(asked.checkpoint, asked.named)
    return (asked,)


_ORDERS: dict[str, Callable[[Words, Words, bool], tuple[Any, ...]]] = {
    "train": _train,
    "mimic": _mimic,
    "eval": _eval,
    "check": _check,
    "predict": _predict,
    "export": _export,
}
