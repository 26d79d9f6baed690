"""One mimic command as the stages it asks for: composed, and checked for what no single key can say."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lshfm.config.compose import Job, changes_results, compose, flatten, peek
from lshfm.config.words import for_stage
from lshfm.console import logger
from lshfm.errors import InputError

STAGE2_LOSS = "++stage2.loss.name="  # a loss for stage 2 alone leaves stage 1 the other one


def plan(overrides: Sequence[str]) -> list[Job]:
    """The jobs of stage 1 and of stage 2 that a command asks for, in this order."""
    if any(word.startswith("stage=[") for word in overrides):
        raise InputError("stage: takes one option, not a list; stage=both, or a sweep with -m stage=1,2")
    asked = str(peek("mimic", overrides, "stage.name"))
    if asked == "1":
        return [_checked(compose("mimic", for_stage("1", overrides)))]
    second = _checked(compose("mimic", for_stage("2", overrides)))
    if asked == "2":
        return [second]
    if second.values["student"]["projection"] is False:
        logger.info("student.projection=false: there is nothing to align, so stage=both is stage 2 alone")
        return [second]
    if second.values["student"]["init"]:
        raise InputError(
            f"student.init={second.values['student']['init']} says where stage 2 starts, so a stage 1 before it "
            "would not be used: add stage=2"
        )
    losses, chosen = stage1_losses(second), list(terms(second.values["loss"]))
    words = for_stage("1", overrides)
    if losses != chosen and not any(word.startswith(STAGE2_LOSS) for word in overrides):
        # Of what was typed for several losses, what stage 1's know; nothing of what was for another.
        known = flatten(peek("mimic", [f"loss=[{','.join(losses)}]"], "loss"), "loss.")
        words = for_stage("1", overrides, losses, known if set(losses) < set(chosen) else ())
    return [_checked(compose("mimic", words)), replace(second, changed=second.changed | _of_stage1(overrides))]


def _of_stage1(overrides: Sequence[str]) -> dict[str, str]:
    """What was typed for stage 1 alone, to tell apart by name the stage 2 that come after it."""
    typed = [word.removeprefix("++stage1.").partition("=") for word in overrides if word.startswith("++stage1.")]
    named = {key.removesuffix(".name"): value for key, _, value in typed}
    return {f"stage1-{key}": value for key, value in named.items() if changes_results("mimic", key)}


def terms(loss: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The nodes of the chosen losses, by option: kind, weight and terms."""
    return {name: node for name, node in loss.items() if isinstance(node, dict) and "kind" in node}


def published(job: Job) -> dict[str, Any]:
    """What the recipe says of the job's stage and loss; empty without a recipe."""
    table = job.values["published"].get(job.values["stage"]["name"]) or {}
    return dict(table.get(job.values["loss"]["name"]) or {})


def stage1_losses(second: Job) -> list[str]:
    """What stage 1 learns by: the recipe's loss for it, else stage 2's own as far as they are on features, else l2."""
    if "stage1_loss" in published(second):
        return [published(second)["stage1_loss"]]
    kinds = {name: node["kind"] for name, node in terms(second.values["loss"]).items()}
    return [name for name, kind in kinds.items() if kind == "feature"] or ["l2"]


def _checked(job: Job) -> Job:
    values = job.values
    if values["teacher"] is None or values["student"].get("_target_") is None:
        raise InputError(f"not given: {'student' if values['teacher'] else 'teacher'}. Add teacher=... and student=...")
    if "teacher.weights" in job.changed:
        raise InputError("teacher.weights: a teacher's weights are those of its checkpoint; teacher=PATH names one")
    projection = values["student"]["projection"]
    if projection not in (True, False, "auto"):
        raise InputError(f"student.projection={projection}: must be auto, true or false; its width is the teacher's")
    for name, node in terms(values["loss"]).items():
        weight = node.get("weight")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            raise InputError(f"loss.{name}.weight={weight}: must be a finite number of at least 0")
    if "backbone" in values["freeze"]:
        raise InputError("freeze=[backbone] leaves nothing to mimic with: the student's feature would stay as it is")
    if values["stage"]["name"] == "1":
        _check_stage1(values)
    return job


def _check_stage1(values: Mapping[str, Any]) -> None:
    for name, node in terms(values["loss"]).items():
        if node["kind"] != "feature":
            raise InputError(
                f"loss={name} compares logits, and stage 1 trains a projection of features, no classifier: "
                "take a feature loss (l1, l2, lsh, lshl2) for stage=1"
            )
    if values["student"]["projection"] is False:
        raise InputError(
            "student.projection=false: stage 1 trains the student's projection, so without one there is nothing to "
            "align: stage=2 alone, or student.projection=true"
        )
    if values["student"]["init"]:
        raise InputError(
            f"student.init={values['student']['init']} says where stage 2 starts; stage 1 starts at student.weights"
        )
