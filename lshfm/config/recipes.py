"""The published experiments as conf/experiment tells them, read without composing anything."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from lshfm.config import CONF_DIR
from lshfm.config.groups import without_pooling

WEIGHTS, RANDOM = "ImageNet weights", "random weights"
_BENCHMARK = {"alone": "alone", "kd": "KD", "crd": "CRD"}


@dataclass(frozen=True)
class Experiment:
    """One command of a recipe."""

    command: str  # without dataset.root and the teacher's checkpoint
    start: str  # what the network starts from
    expected_mAP: float | None  # in percent
    is_published: bool  # False: settings by analogy, of no published experiment
    expected_top1: float | None = None  # in percent, where there is one label an image
    benchmark: str = ""  # top-1 of others with the same networks and schedule, in words


@dataclass(frozen=True)
class Recipe:
    """One file of conf/experiment: a network alone, or a teacher and its student."""

    dataset: str
    network: str  # with its pooling; the student, where there is a teacher
    teacher: str | None
    teacher_mAP: float | None  # in percent
    note: str | None
    hardware: str | None  # of the published runs
    experiments: tuple[Experiment, ...]


def recipes(folder: Path = CONF_DIR) -> list[Recipe]:
    """All recipes of `folder`, by name."""
    return [_recipe(path) for path in sorted((folder / "experiment").glob("*.yaml"))]


def recipe_command(name: str) -> str | None:
    """The command that a recipe of conf/experiment belongs to; None for another name."""
    path = CONF_DIR / "experiment" / f"{name}.yaml"
    if not path.is_file():
        return None
    return str(OmegaConf.select(OmegaConf.load(path), "recipe.command"))


@lru_cache(maxsize=256)  # jobs of a sweep ask for the same one
def published_pairs(dataset: str, teacher: str, student: str, pool: str | None, folder: Path = CONF_DIR) -> list[str]:
    """The recipes of a teacher and a student on a data set; each by its option, the student with its pooling."""
    found = []
    for path in sorted((folder / "experiment").glob("*.yaml")):
        node: Any = OmegaConf.to_container(OmegaConf.load(path))
        chosen = {group.rpartition("/")[2]: name for item in node["defaults"] for group, name in item.items()}
        pair = (chosen.get("dataset"), chosen.get("teacher"), chosen.get("model@student"))
        if pair == (dataset, teacher, student) and node["student"].get("pool") == pool:
            found.append(path.stem)
    return found


def _recipe(path: Path) -> Recipe:
    node: Any = OmegaConf.to_container(OmegaConf.load(path))
    chosen = {group.removeprefix("override /"): name for item in node["defaults"] for group, name in item.items()}
    role, recipe_node = ("student" if "teacher" in chosen else "model"), node["recipe"]
    loss = chosen.get("label_loss@loss") or chosen["loss"]
    return Recipe(
        dataset=chosen["dataset"],
        network=_title(chosen.get("model@student") or chosen["model"], node[role].get("pool")),
        teacher=_teacher(chosen["teacher"], "pool" in node[role]) if "teacher" in chosen else None,
        teacher_mAP=recipe_node.get("teacher_mAP"),
        note=recipe_node.get("note"),
        hardware=recipe_node.get("hardware"),
        experiments=tuple(_experiments(f"lshfm {recipe_node['command']} experiment={path.stem}", loss, node)),
    )


def _title(network: str, pool: str | None) -> str:
    """A network with its pooling, if it is one that has any."""
    return f"{network} ({pool})" if pool else network


def _teacher(option: str, has_pooling: bool) -> str:
    network = without_pooling(option)
    return _title(network, (option[len(network) + 1 :] or "GAP") if has_pooling else None)


def _experiments(command: str, loss: str, node: Mapping[str, Any]) -> Iterator[Experiment]:
    """The commands of a recipe: one of a baseline, one for each stage and loss of a pair."""
    recipe = node["recipe"]
    of_map, of_top1 = recipe.get("expected_mAP", {}), recipe.get("expected", {})
    others = ", ".join(f"{_BENCHMARK[name]} {number:g}" for name, number in recipe.get("benchmark", {}).items())
    if "published" not in node:
        start = WEIGHTS if node["model"]["weights"] == "imagenet" else RANDOM
        yield Experiment(command, start, of_map.get(loss), True, of_top1.get(loss), others)
    for stage, losses in node.get("published", {}).items():
        for name, entry in losses.items():
            found = (of_map.get(name), of_top1.get(name)) if stage == "2" else (None, None)  # stage 1 shows nothing
            words = f"{command} stage={stage} loss={name}"
            yield Experiment(words, _start(stage, entry), found[0], entry.get("published", True), found[1], others)


def _start(stage: str, entry: Mapping[str, Any]) -> str:
    if "unreleased" in entry:
        return f"{WEIGHTS}, instead of a file never released"
    if entry.get("init") == "none":
        return RANDOM
    starts_itself = stage == "1" or "init" in entry or entry.get("projection") is False
    return WEIGHTS if starts_itself else f"stage 1 with {entry['stage1_loss']}"
