"""Thresholds and a temperature, chosen on images that a network was not trained on, and what they change."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lshfm.config.compose import Job
from lshfm.config.schema import Eval
from lshfm.console import logger
from lshfm.errors import InputError
from lshfm.metrics.decisions import sigmoid
from lshfm.metrics.multilabel import by_class, precision_recall
from lshfm.metrics.thresholds import Goal, calibration_error, choose_thresholds, fit_temperature
from lshfm.runs.checkpoint import Checkpoint
from lshfm.runs.thresholds import Thresholds
from lshfm.shipping.tested import Tested, as_held_out
from lshfm.tasks.task import Arrays, Task


@dataclass(frozen=True)
class HeldOut(Tested):
    """Images to choose on. words: what they are."""

    words: str


def find_held_out(task: Task, checkpoint: Checkpoint, job: Job[Eval], tested: Tested) -> HeldOut:
    """The part of the training split that was held out, else another split that was typed.

    tested: what figures are measured on afterwards. Raises InputError where nothing else is left to choose on, unless
    allow_test=true, or images that it learnt from.
    """
    dataset = job.settings.dataset
    if task.activation != "sigmoid":
        raise InputError(f"thresholds and calibration are for tasks with yes or no for each class, not {dataset.task}")
    if checkpoint.is_stage1:
        raise InputError(
            f"{checkpoint.path} is of a stage 1: its classifier is untrained, so there is nothing to choose"
        )
    trained = dict(checkpoint.content["dataset"]["values"]) if checkpoint.content else {}
    is_same = trained.get("name") == dataset.name
    is_test = dataset.eval_split == trained.get("eval_split") or "dataset.eval_split" not in job.changed
    if not is_test:
        if is_same and dataset.eval_split == trained.get("train_split"):
            raise InputError(f"the network learnt from split {dataset.eval_split}: thresholds chosen there flatter it")
        (split,) = task.read(dataset, [dataset.eval_split])
        return HeldOut(split, None, f"split {split.name} of {dataset.name}")
    share = float(trained.get("holdout") or 0)
    if is_same and share:
        words = f"{share:g} of split {dataset.train_split} of {dataset.name}, held out of training"
        if tested.part is not None:
            _allow_flattery(job.settings, "the images that training held out are all that is left to test on")
            return HeldOut(tested.split, tested.part, words)
        (split,) = task.read(dataset, [dataset.train_split])
        if checkpoint.data not in (None, split.fingerprint()):
            raise InputError(
                f"split {split.name} has other images or labels than those that the network was trained on"
            )
        return HeldOut(split, as_held_out(dataset, trained), words)
    left = f"only the test split {dataset.eval_split} is left that the network did not learn from"
    _allow_flattery(job.settings, left, "train with dataset.holdout=0.1, or ")
    (split,) = task.read(dataset, [dataset.eval_split])
    return HeldOut(split, None, f"split {split.name} of {dataset.name}, the test split itself")


def _allow_flattery(settings: Eval, left: str, before: str = "") -> None:
    """Warn that what is chosen flatters figures on the same images. Raises InputError unless allow_test=true."""
    if not settings.allow_test:
        raise InputError(
            f"{left}, and what is chosen there flatters it: {before}give another split as dataset.eval_split=NAME, or "
            "allow_test=true"
        )
    logger.warning("thresholds are chosen on the test split itself: figures on it are flattered")


def chosen(
    arrays: Arrays, classes: Sequence[str], settings: Eval, weights: str, before: Thresholds | None, words: str
) -> Thresholds:
    """What was asked for, chosen on these outputs; the rest stays as `before` has it."""
    logits, labels = arrays["logits"], arrays["targets"]
    temperature = before.temperature if before else 1.0
    if settings.calibration == "temperature":
        temperature = fit_temperature(logits, labels)
    limits, goal = _logits_of(before), before.goal if before else None
    if settings.thresholds.tune:
        goal = settings.thresholds.goal
        limits = choose_thresholds(logits, labels, Goal.parse(goal))
    values = None if limits is None else sigmoid(limits / temperature)
    named = None if values is None else dict(zip(classes, map(float, values), strict=True))
    found = Thresholds(
        weights=weights, thresholds=named, goal=goal, temperature=temperature, chosen_on=words, figures={}
    )
    return Thresholds(**vars(found) | {"figures": effect(found, arrays, classes)})


def _logits_of(before: Thresholds | None) -> Any:
    if before is None or before.thresholds is None:
        return None
    p = np.clip(np.array(list(before.thresholds.values())), 1e-12, 1 - 1e-12)
    return np.log(p / (1 - p)) * before.temperature


def effect(found: Thresholds, arrays: Arrays, classes: Sequence[str]) -> dict[str, Any]:
    """Precision, recall and F1 at 0.5 and at the thresholds, and the calibration error, on these outputs."""
    logits, labels = arrays["logits"], arrays["targets"]
    decisions = found.decisions("sigmoid")
    figures: dict[str, Any] = {
        "images": len(logits),
        "ece_before": calibration_error(logits, labels),
        "ece_after": calibration_error(logits, labels, found.temperature),
    }
    if decisions.thresholds is not None:
        passed = decisions.probabilities(logits) >= np.array(decisions.thresholds)
        for name, predicted in (("at_0.5", logits >= 0), ("tuned", passed)):
            rows = by_class(predicted, labels, classes)
            defined = [row["f1"] for row in rows if row["f1"] is not None]
            mean = sum(defined) / len(defined) if defined else None
            figures[name] = precision_recall(predicted, labels) | {"mean_F1": mean, "by_class": rows}
    return figures


def say_what_was_there(before: Thresholds | None, settings: Eval) -> None:
    """Log what becomes of thresholds and a temperature that were chosen earlier."""
    if before is None:
        return
    if before.thresholds and settings.thresholds.tune:
        logger.info("the thresholds chosen earlier (%s) are replaced", before.words)
    elif before.thresholds:
        logger.info("the thresholds chosen earlier (%s) stay: thresholds=tune chooses new ones", before.words)
    if before.temperature != 1.0 and settings.calibration == "none":
        logger.info(
            "the temperature %.3f fitted earlier stays: calibration=temperature fits it anew", before.temperature
        )


def say(figures: Mapping[str, Any], found: Thresholds, where: str) -> None:
    """Log what was changed, on these images."""
    if "tuned" in figures:
        pairs = [(name, figures["at_0.5"][name], figures["tuned"][name]) for name in ("mean_F1", "CP", "CR", "OF1")]
        texts = [f"{name.replace('_', ' ')} {a:.2f} -> {b:.2f}" for name, a, b in pairs if None not in (a, b)]
        logger.info("thresholds (%s) on %s: %s", found.goal, where, ", ".join(texts))
    if found.temperature != 1.0:
        logger.info(
            "temperature %.3f on %s: calibration error (ECE) %.2f -> %.2f %%",
            found.temperature, where, figures["ece_before"], figures["ece_after"],
        )  # fmt: skip
