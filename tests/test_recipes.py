"""The published `train` recipes, every hyper-parameter of them."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lshfm.commands.naming import train_name
from lshfm.config import CONF_DIR
from lshfm.config.compose import Job, compose, conf_folder
from lshfm.config.launch import options, recipe_command

# Published mAP of a teacher trained by a recipe; the others have none.
EXPECTED = {
    "voc2007_resnet101_baseline": 93.27,
    "voc2007_resnet34_baseline": 91.69,
    "coco_resnet101_baseline": 77.67,
    "coco_resnet101_GMP_baseline": 79.57,
}
ARCHITECTURES = {"vgg19bn": "vgg19_bn"}
NOT_COMPARED = {"experiment", "command", "gpus"}  # gpus is what it ran on


@pytest.fixture(scope="module")
def reference() -> Path:
    folder = Path(__file__).resolve().parents[2] / "shared" / "reference"
    if not folder.is_dir():
        pytest.skip(f"no published recipes at {folder}")
    return folder


@pytest.fixture(scope="module")
def jobs() -> dict[str, Job]:
    with conf_folder():
        return {
            name: compose("train", [f"experiment={name}", "dataset.root=DIR"])
            for name in options("experiment")
            if recipe_command(name) == "train"
        }


def as_row(job: Job) -> dict[str, Any]:
    """A composed recipe in the columns of the published table."""
    values, model = job.values, job.values["model"]
    names = ("epochs", "lr", "weight_decay", "batch_size", "eval_batch_size")
    of_mimicking = ("teacher", "teacher_pool", "teacher_mAP", "hash_form", "hash_num", "bias", "beta", "temperature")
    return {
        "dataset": job.choices["dataset"],
        "student": model["arch"],
        "student_pool": model["pool"],
        "projection": model["projection"] or "none",
        "student_init": model["weights"],
        "loss": job.choices["loss"],
        "gamma": 1.0 if values["loss"] == {"_target_": "lshfm.losses.classification.BCE", "name": "bce"} else "?",
        "cosine_epochs": values["schedule"]["cosine_epochs"],
        "size": values["dataset"]["size"],
        **{name: values[name] for name in names},
        **dict.fromkeys(of_mimicking, ""),
    }


def published(row: Mapping[str, str]) -> dict[str, Any]:
    """A row of the table in the same terms; numbers as numbers."""
    terms: dict[str, Any] = {name: text for name, text in row.items() if name not in NOT_COMPARED}
    for name in ("gamma", "epochs", "lr", "weight_decay", "cosine_epochs", "batch_size", "eval_batch_size", "size"):
        terms[name] = float(row[name])
    student = ARCHITECTURES.get(row["student"], row["student"])
    assert row["student_init"].startswith(f"{student}-"), "torchvision's ImageNet weights"
    return terms | {"student": student, "student_init": "imagenet"}


def test_every_hyper_parameter_is_the_published_one(reference: Path, jobs: dict[str, Job]) -> None:
    with (reference / "recipes_multilabel.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["command"] == "train"]
    table = {row["experiment"].replace("/", "_").removesuffix("_BCE"): published(row) for row in rows}
    assert {name: as_row(job) for name, job in jobs.items()} == table


def test_expected_numbers_are_the_published_ones(reference: Path) -> None:
    text = (reference / "published_results.md").read_text() + (reference / "recipes_multilabel.csv").read_text()
    assert [number for number in EXPECTED.values() if str(number) not in text] == []


def test_there_are_fifteen_and_nothing_else(jobs: dict[str, Job]) -> None:
    assert sorted(jobs) == options("experiment")
    assert len(jobs) == 15


def test_what_all_recipes_share(jobs: dict[str, Job]) -> None:
    shared = {
        "optimizer": "sgd",
        "momentum": 0.9,
        "lr": 0.01,
        "accumulate": 1,
        "ema": 0,
        "freeze": [],
        "augment": {"flip": 0.5, "brightness": 0.3, "contrast": 0.3, "saturation": 0.3},
        "precision": "fp32",
        "select": "last",
        "seed": 0,
        "gpus": None,
    }
    for job in jobs.values():
        assert {name: job.values[name] for name in shared} == shared
        epochs = job.values["epochs"]
        assert job.values["schedule"] == {"cosine_epochs": epochs, "steps": [], "warmup": 0, "initial_lr": 0}
        assert (job.values["dataset"]["holdout"], job.values["dataset"]["skip_broken"]) == (0, False)
        assert job.values["dataset"]["mean"] == [0.485, 0.456, 0.406]
        assert job.values["dataset"]["std"] == [0.229, 0.224, 0.225]
        assert (job.values["dataset"]["train_split"], job.values["dataset"]["eval_split"]) == {
            "voc2007": ("trainval", "test"),
            "coco2014": ("train2014", "val2014"),
        }[str(job.choices["dataset"])]


def test_a_recipe_says_of_itself_command_number_and_hardware(jobs: dict[str, Job]) -> None:
    for name, job in jobs.items():
        package, command, expected = (CONF_DIR / "experiment" / f"{name}.yaml").read_text().splitlines()[:3]
        number, metric = EXPECTED.get(name), job.values["dataset"]["metric"]
        said = f"{number} {metric} mAP" if number else "not published"
        assert package == "# @package _global_"
        assert command == f"# lshfm train experiment={name} dataset.root=DIR"
        assert expected.startswith(f"# Expected: {said}. Published on 4 GPUs")
        assert job.values["recipe"] == {"command": "train", "expected_mAP": number, "hardware": "4 GPUs"}


def test_runs_of_different_recipes_have_different_names(jobs: dict[str, Job]) -> None:
    names = {train_name(job) for job in jobs.values()}
    assert len(names) == 15
    assert "coco2014_resnet101_GMP_bce_s0_epochs-30" in names
    assert "voc2007_resnet34_bce_s0_eval_batch_size-16" in names
