"""The published experiments as conf/experiment tells them, read without composing anything."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from lshfm.config import CONF_DIR
from lshfm.config.teachers import without_pooling

WEIGHTS = "ImageNet weights"


@dataclass(frozen=True)
class Experiment:
    """One command of a recipe."""

    command: str  # all but where the data and the teacher's checkpoint lie
    start: str  # what the network starts from
    expected_mAP: float | None  # in percent
    is_published: bool  # False: settings by analogy, of no published experiment


@dataclass(frozen=True)
class Recipe:
    """One file of conf/experiment: a network alone, or a teacher and its student."""

    dataset: str
    network: str  # with its pooling; the student, where there is a teacher
    teacher: str | None
    teacher_mAP: float | None  # in percent
    note: str | None
    experiments: tuple[Experiment, ...]


def recipes(folder: Path = CONF_DIR) -> list[Recipe]:
    """All recipes of `folder`, by name."""
    return [_recipe(path) for path in sorted((folder / "experiment").glob("*.yaml"))]


def _recipe(path: Path) -> Recipe:
    node: Any = OmegaConf.to_container(OmegaConf.load(path))
    chosen = {group.removeprefix("override /"): name for item in node["defaults"] for group, name in item.items()}
    role, says = ("student" if "teacher" in chosen else "model"), node["recipe"]
    return Recipe(
        dataset=chosen["dataset"],
        network=f"{chosen.get('model@student') or chosen['model']} ({node[role]['pool']})",
        teacher=_teacher(chosen["teacher"]) if "teacher" in chosen else None,
        teacher_mAP=says.get("teacher_mAP"),
        note=says.get("note"),
        experiments=tuple(_experiments(f"lshfm {says['command']} experiment={path.stem}", chosen["loss"], node)),
    )


def _teacher(option: str) -> str:
    network = without_pooling(option)
    return f"{network} ({option[len(network) + 1 :] or 'GAP'})"


def _experiments(command: str, loss: str, node: Mapping[str, Any]) -> Iterator[Experiment]:
    """The commands of a recipe: one of a baseline, one for each stage and loss of a pair."""
    expected = node["recipe"]["expected_mAP"]
    if "published" not in node:
        yield Experiment(command, WEIGHTS, expected.get(loss), is_published=True)
    for stage, losses in node.get("published", {}).items():
        for name, entry in losses.items():
            number = expected.get(name) if stage == "2" else None  # of stage 1 alone nothing is evaluated
            words = f"{command} stage={stage} loss={name}"
            yield Experiment(words, _start(stage, entry), number, entry.get("published", True))


def _start(stage: str, entry: Mapping[str, Any]) -> str:
    if "unreleased" in entry:
        return f"{WEIGHTS}, instead of a file never released"
    return WEIGHTS if stage == "1" or "init" in entry else f"stage 1 with {entry['stage1_loss']}"
