"""Splits a mimic command into one job for each stage, and checks that its settings go together."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from lshfm.config.changes import changes_results, flatten
from lshfm.config.compose import Job, compose, peek
from lshfm.config.schema import Mimic
from lshfm.config.words import for_stage
from lshfm.errors import InputError

T = TypeVar("T")
_WORDS = {"map": "maps", "correct": "features by the teacher's answers", "relation": "relations of features"}
STAGE2_LOSS = "++stage2.loss.name="  # a loss typed for stage 2 alone; stage 1 then takes loss=


def plan(overrides: Sequence[str], typed: Sequence[str] = ()) -> tuple[list[Job[Mimic]], list[str]]:
    """The jobs of stage 1 and of stage 2 that a command asks for, in this order, and notes for the log.

    typed: the command line. Raises InputError as `compose` does, and for settings that do not go together.
    """
    if any(word.startswith("stage=[") for word in overrides):
        raise InputError("stage: takes one option, not a list; stage=both, or a sweep with -m stage=1,2")
    asked = str(peek("mimic", overrides, "stage.name"))
    if asked == "1":
        return [_composed(for_stage("1", overrides), typed)], []
    second = _composed(for_stage("2", overrides), typed)
    if asked == "2":
        return [second], []
    student = second.settings.student
    if student.projection is False:
        return [second], ["student.projection=false: there is nothing to align, so stage=both is stage 2 alone"]
    if student.init:
        raise InputError(
            f"student.init={student.init} says where stage 2 starts, so a stage 1 before it would not be used: "
            "add stage=2"
        )
    first = _composed(words_of_stage1(second.settings, overrides), typed)
    return [first, replace(second, changed=second.changed | _of_stage1(overrides))], []


def words_of_stage1(second: Mimic, overrides: Sequence[str]) -> list[str]:
    """The overrides of stage=both as its stage 1 takes them, with the losses of stage 1."""
    losses, chosen = stage1_losses(second), list(second.loss.chosen)
    if losses == chosen or any(word.startswith(STAGE2_LOSS) for word in overrides):
        return for_stage("1", overrides)
    # If stage 1 takes some of the chosen losses, it keeps the typed keys that they know; with another loss, none.
    known = flatten(peek("mimic", [f"loss=[{','.join(losses)}]"], "loss"), "loss.")
    return for_stage("1", overrides, losses, known if set(losses) < set(chosen) else ())


def _of_stage1(overrides: Sequence[str]) -> dict[str, str]:
    """Keys typed for stage 1 alone that change results: they enter the name of the stage 2 that follows it."""
    typed = [word.removeprefix("++stage1.").partition("=") for word in overrides if word.startswith("++stage1.")]
    named = {key.removesuffix(".name"): value for key, _, value in typed}
    return {f"stage1-{key}": value for key, value in named.items() if changes_results("mimic", key)}


def fitting(candidates: Sequence[T], settings: Mimic, about: Callable[[T], tuple[str, int]]) -> list[T]:
    """Of several stages 1 for a stage 2 those that fit it best: by their loss, then by their seed.

    about: the loss's name and the seed of one.
    """
    preferences: list[Callable[[str, int], bool]] = [
        lambda loss, _: loss == "-".join(stage1_losses(settings)),
        lambda loss, _: loss == settings.loss.title,
        lambda _, seed: seed == settings.seed,
    ]
    best = list(candidates)
    for fits in preferences:
        best = [each for each in best if fits(*about(each))] or best
    return best


def stage1_losses(second: Mimic) -> list[str]:
    """The losses of stage 1: the recipe's for it, else those of stage 2 that are on features, else l2."""
    if "stage1_loss" in second.published_row:
        return [second.published_row["stage1_loss"]]
    return [name for name, loss in second.loss.chosen.items() if loss.kind == "feature"] or ["l2"]


def _composed(words: Sequence[str], typed: Sequence[str]) -> Job[Mimic]:
    job = compose(Mimic, words, typed=typed)
    _check(job)
    return job


def _check(job: Job[Mimic]) -> None:
    settings, student = job.settings, job.settings.student
    if settings.teacher.option is None or student.target is None:
        missing = "student" if settings.teacher.option else "teacher"
        raise InputError(f"not given: {missing}. Add teacher=... and student=...")
    if "teacher.weights" in job.changed:
        raise InputError("teacher.weights: a teacher's weights are those of its checkpoint; teacher=PATH names one")
    if student.projection not in (True, False, "auto", "needed"):
        raise InputError(
            f"student.projection={student.projection}: must be auto, true, false or needed (where the widths differ); "
            "its width is the teacher's"
        )
    for name, loss in settings.loss.chosen.items():
        if isinstance(loss.weight, bool) or not isinstance(loss.weight, int | float) or not 0 <= loss.weight < math.inf:
            raise InputError(f"loss.{name}.weight={loss.weight}: must be a finite number of at least 0")
    _check_alpha(settings)
    if "backbone" in settings.freeze:
        raise InputError("freeze=[backbone] leaves nothing to mimic with: the student's feature would stay as it is")
    if settings.is_stage1:
        _check_stage1(settings)


def _check_alpha(settings: Mimic) -> None:
    alpha = settings.loss.alpha
    if alpha is not None and (
        isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 <= alpha < math.inf
    ):
        raise InputError(f"loss.alpha={alpha}: must be a finite number of at least 0")
    counted = [name for name, loss in settings.loss.chosen.items() if loss.kind == "correct"]
    if counted and settings.accumulate > 1:
        raise InputError(
            f"accumulate={settings.accumulate}: loss={counted[0]} is a mean over the images of a whole batch that the "
            "teacher gets right, which parts of it do not know: accumulate=1"
        )


def _check_stage1(settings: Mimic) -> None:
    for name, loss in settings.loss.chosen.items():
        if loss.kind != "feature":
            raise InputError(
                f"loss={name} compares {_WORDS.get(loss.kind, 'logits')}, and stage 1 trains a projection of features, "
                "no classifier: "
                "take a feature loss (l1, l2, lsh, lshl2) for stage=1"
            )
    if settings.student.projection is False:
        raise InputError(
            "student.projection=false: stage 1 trains the student's projection, so without one there is nothing to "
            "align: stage=2 alone, or student.projection=true"
        )
    if settings.student.init:
        raise InputError(
            f"student.init={settings.student.init} says where stage 2 starts; stage 1 starts at student.weights"
        )
