"""The published experiments of detection: every row of their table against what its name leads to."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from lshfm.config import CONF_DIR
from lshfm.config.compose import compose, conf_folder
from lshfm.config.keys import without_code
from lshfm.config.recipes import recipes
from lshfm.config.schema import COMMANDS, Mimic, Train
from lshfm.config.words import for_stage, rewrite
from lshfm.mimicking.starts import find_start, settled
from lshfm.runs.checkpoint import same_network
from lshfm.runs.settled import rate_of

TABLE = Path(__file__).resolve().parents[2] / "shared" / "reference" / "recipes_detection.csv"
ROWS = list(csv.DictReader(TABLE.read_text().splitlines())) if TABLE.is_file() else []
STEPS = {"voc0712": 2_069, "voc07": 626}  # of an epoch


def settings_of(command: str, *words: str) -> Any:
    """As a user types it, data set's folder and teacher's file aside."""
    typed = rewrite(command, ["dataset.root=/x", *words])
    with conf_folder():
        return compose(COMMANDS[command], for_stage("2", typed) if command == "mimic" else typed).settings


def rate(lr: float, step: int, steps: int) -> float:
    """The published warm-up, set before each step."""
    n = min(1000, steps - 1)
    return lr * (0.001 * (1 - step / n) + step / n) if step < n else lr


@pytest.mark.skipif(not ROWS, reason="needs the published recipes")
@pytest.mark.parametrize("row", [pytest.param(row, id=row["experiment"], marks=() if i % 9 == 4 else pytest.mark.slow)
                                 for i, row in enumerate(ROWS)])  # fmt: skip
def test_a_name_leads_to_its_row(row: dict[str, str]) -> None:
    found: Train | Mimic = settings_of(row["command"], f"experiment={row['experiment']}")
    dataset, network = found.dataset, found.student if row["command"] == "mimic" else found.model
    assert (dataset.option, dataset.task, dataset.metric) == (row["dataset"], "detection", "coco_ap50")
    assert (network.option, network.weights) == (row["student"], "imagenet")
    numbers = {"epochs": found.epochs, "lr": found.lr, "weight_decay": found.weight_decay, "momentum": found.momentum}
    assert numbers == {name: float(row[name]) for name in numbers}
    assert found.batch_size == int(row["gpus"]) * int(row["images_per_gpu"])
    sizes = dataset.pictures.train_sizes or range(480, 801, 32)
    assert list(sizes) == [int(size) for size in row["min_size"].split()]
    assert dataset.size == 800
    schedule, steps = found.schedule, STEPS[row["dataset"]]
    assert schedule.steps == [float(step) for step in row["lr_steps"].split()]
    assert (schedule.policy, schedule.cosine_epochs) == ("cosine", 0)
    at = rate_of(found, steps)
    for step in (0, 1, 500, 624, 625, 999, 1000, steps):
        assert at(step / steps) == pytest.approx(rate(float(row["lr"]), step, steps))
    augment = found.augment
    assert (augment.flip, augment.brightness, augment.contrast, augment.saturation) == (0.5, 0, 0, 0)
    assert (found.optimizer, found.clip_grad, found.ema, found.freeze) == ("sgd", None, 0, [])
    if row["command"] == "mimic":
        require_mimicking(found, row)


def require_mimicking(found: Mimic, row: dict[str, str]) -> None:
    loss = found.loss
    assert (found.teacher.option, loss.option, loss.beta, loss.gamma) == (
        row["teacher"], row["loss"], float(row["beta"]), 1,
    )  # fmt: skip
    assert loss.of_boxes
    assert (loss.of_boxes.positions, loss.of_boxes.beta_warmup, found.student.projection) == ("all", 0, False)
    if row["hash_num"]:
        assert loss.hashing
        assert (loss.hashing.hash_num, loss.hashing.std, loss.hashing.bias) == (int(row["hash_num"]), None, "zero")
        assert loss.hashing.form == row["hash_form"].lower()


@pytest.mark.skipif(not ROWS, reason="needs the published recipes")
def test_the_list_has_every_row_with_its_number() -> None:
    own = {recipe.experiments[0].command.split("experiment=")[1].split()[0]: recipe.experiments[0]
           for recipe in recipes() if recipe.dataset in STEPS}  # fmt: skip
    assert {name: each.expected_top1 for name, each in own.items()} == {
        row["experiment"]: float(row["published_ap50"]) if row["published_ap50"] else None for row in ROWS
    }
    assert len(own) == 34


@pytest.mark.skipif(not ROWS, reason="needs the published recipes")
def test_every_file_says_its_row() -> None:
    """As it is written, without composing it: of a few rows the test above does."""
    for row in ROWS:
        node = yaml.safe_load((CONF_DIR / "experiment" / f"{row['experiment']}.yaml").read_text())
        chosen = {group: name for item in node["defaults"] for group, name in item.items()}
        role, group = ("student", "model@student") if row["command"] == "mimic" else ("model", "model")
        network = node[role]
        assert (chosen["override /dataset"], chosen[f"override /{group}"]) == (row["dataset"], row["student"])
        assert network["weights"] == "imagenet"
        per_class = 300 if row["student"].startswith("retinanet") else None
        assert network.get("per_class") == per_class
        assert (node["epochs"], node["lr"]) == (int(row["epochs"]), float(row["lr"]))
        assert node["schedule"] == {"cosine_epochs": 0, "steps": [int(step) for step in row["lr_steps"].split()]}
        sizes = node["dataset"]["train_sizes"] or range(480, 801, 32)
        assert list(sizes) == [int(size) for size in row["min_size"].split()]
        if row["command"] == "mimic":
            assert (chosen["override /teacher"], chosen["override /loss"]) == (row["teacher"], row["loss"])
            assert node.get("teacher", {}).get("per_class") == per_class
            hashes = {"hash_num": int(row["hash_num"])} if row["hash_num"] else {}
            assert node["published"]["2"] == {row["loss"]: {"beta": float(row["beta"]), "projection": False, **hashes}}


def test_a_recipe_finds_its_teacher_and_starts_at_the_weights_that_are_typed() -> None:
    trained = settings_of("train", "experiment=voc0712_retinanet_r101_baseline").model
    found = settings_of("mimic", "experiment=voc0712_retinanet_r50_r101_l2", "student.weights=own.pth", "lr=0.02")
    values = {"name": "x", **trained.own, "weights": "imagenet"}
    content = {"network": {"option": trained.option, "values": without_code(values)}}
    assert same_network(content, found.teacher.option, found.teacher.design)
    start = find_start(replace(found, student=settled(found.student, 2304)), None, None)  # type: ignore[arg-type]
    assert start.weights == "own.pth"
    assert found.schedule.initial_lr == pytest.approx(0.001 * 0.02)
