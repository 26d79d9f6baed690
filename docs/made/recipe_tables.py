"""The tables of published experiments, from what `lshfm recipes` prints; beside them what was measured."""

import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lshfm.config.recipes import Experiment, Recipe, recipes

MEASURED = Path(__file__).parents[1] / "measured.csv"  # command, score, hardware, hours
HEAD = ["| what | command | published | ours | hardware | hours | starts from |", "|---|---|---|---|---|---|---|"]


def recipe_tables() -> str:
    """A table for each data set."""
    measured = {row["command"]: row for row in csv.DictReader(MEASURED.read_text(encoding="utf-8").splitlines())}
    of_dataset: dict[str, list[Recipe]] = defaultdict(list)
    for recipe in recipes():
        of_dataset[recipe.dataset].append(recipe)
    tables = [f"## {dataset}\n\n" + "\n".join(_table(found, measured)) for dataset, found in of_dataset.items()]
    return "\n\n".join(tables)


def _table(found: Sequence[Recipe], measured: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    yield from HEAD
    for recipe in found:
        for number, each in enumerate(recipe.experiments):
            yield _row("" if number else _title(recipe), each, recipe, measured.get(each.command, {}))


def _title(recipe: Recipe) -> str:
    """The network, or teacher and student, with the teacher's score where one is published."""
    score = f", {recipe.teacher_mAP}" if recipe.teacher_mAP is not None else ""
    return f"{recipe.teacher}{score} → {recipe.network}" if recipe.teacher else recipe.network


def _row(title: str, experiment: Experiment, recipe: Recipe, ours: Mapping[str, str]) -> str:
    score = experiment.expected_top1 if experiment.expected_mAP is None else experiment.expected_mAP
    published = "–" if score is None else f"{score:g}"
    published += "" if experiment.is_published else " (settings not published)"
    published += f" (elsewhere {experiment.benchmark})" if experiment.benchmark else ""
    hardware = ours.get("hardware") or (f"published: {recipe.hardware}" if recipe.hardware else "–")
    own = [ours.get("score") or "–", hardware, ours.get("hours") or "–"]
    note = f"; {recipe.note}" if recipe.note and title else ""
    return f"| {title} | `{experiment.command}` | {published} | {' | '.join(own)} | {experiment.start}{note} |"
