"""The published single-label experiments: every column of their table against what the listed commands lead to."""

import csv
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from lshfm.config import CONF_DIR
from lshfm.config.catalogue import options
from lshfm.config.compose import Job, compose, conf_folder
from lshfm.config.keys import plain
from lshfm.config.recipes import recipe_command, recipes
from lshfm.config.schema import Mimic, Train
from lshfm.config.stages import plan
from lshfm.config.words import rewrite
from lshfm.runs.naming import mimic_name, train_name

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS = {
    e.command: e for recipe in recipes() if recipe.dataset in ("cifar100", "imagenet") for e in recipe.experiments
}
OURS = {
    "ResNet50": "cifar_resnet50", "MobileNetV2": "cifar_mobilenet_v2", "ResNet18": "resnet18", "ResNet34": "resnet34",
    "ResNet101": "resnet101", "mobilenetv2": "mobilenet_v2",
}  # fmt: skip
WIDTHS = {"wrn_16_2": 128, "wrn_40_2": 128, "resnet32x4": 256, "resnet8x4": 256}


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    path = ROOT.parent / "shared" / "reference" / "recipes_singlelabel.csv"
    if not path.is_file():
        pytest.skip(f"no published recipes at {path}")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def ours(network: str) -> str:
    return OURS.get(network, network)


def command_of(row: dict[str, str]) -> str:
    student, teacher = (ours(row[role]).removeprefix("cifar_") for role in ("student", "teacher"))
    if row["command"] == "train":
        return f"lshfm train experiment={row['dataset']}_{student}_baseline"
    return f"lshfm mimic experiment={row['dataset']}_{teacher}_{student} stage=2 loss=lshl2_s"


@cache
def job_of(command: str) -> Job[Any]:
    """What a command leads to, typed as a user types it."""
    _, name, *words = command.split()
    overrides = rewrite(name, [*words, "dataset.root=/x"])
    with conf_folder():
        if name == "train":
            return compose(Train, overrides)
        jobs, _ = plan(overrides)
    assert len(jobs) == 1  # one stage
    return jobs[0]


def number(text: str) -> float | None:
    return float(text) if text else None


def as_row(settings: Train | Mimic, row: dict[str, str]) -> dict[str, Any]:
    """A composed experiment in the columns of the table."""
    network = settings.student if isinstance(settings, Mimic) else settings.model
    shared = {
        "dataset": settings.dataset.option, "student": network.own["arch"], "student_init": "random",
        "epochs": settings.epochs, "lr": settings.lr, "weight_decay": settings.weight_decay,
        "momentum": settings.momentum, "batch_size": settings.batch_size, "eval_batch_size": settings.eval_batch_size,
        "size": settings.dataset.size, "drop_last": {True: "yes", False: "no"}[settings.drop_last],
        "lr_steps": " ".join(f"{step:g}" for step in settings.schedule.steps), "lr_gamma": 0.1, "seed": settings.seed,
    }  # fmt: skip
    assert settings.schedule.cosine_epochs == 0
    assert settings.schedule.policy == "cosine"
    if isinstance(settings, Train):
        return shared | {"loss": settings.loss.option, "gamma": 1.0, "teacher": "", "projection": "none"}
    hashing, width = settings.loss.hashing, int(row["teacher_feature_width"])
    assert hashing
    assert settings.label_loss.option == "ce"
    assert settings.student.init == "none"
    std = "std of the teacher classifier weight" if hashing.std is None else f"{hashing.std:g}"
    projected = {True: f"{row['student_feature_width']}->{width}", False: "none"}[settings.student.projection]
    return shared | {
        "teacher": settings.teacher.own["arch"], "loss": settings.loss.option, "hash_form": hashing.form.upper(),
        "hash_num": str(hashing.hash_num or 32 * width), "hash_std": std, "gamma": settings.loss.gamma,
        "bias": {"zero": "0"}.get(hashing.bias, hashing.bias), "alpha": settings.loss.alpha,
        "beta": settings.loss.beta, "projection": projected,
    }  # fmt: skip


def published(row: dict[str, str]) -> dict[str, Any]:
    numbers = ("epochs", "lr", "weight_decay", "momentum", "batch_size", "eval_batch_size", "size", "lr_gamma", "seed",
               "gamma", "alpha", "beta")  # fmt: skip
    terms = dict(row) | {name: number(row[name]) for name in numbers}
    return terms | {"student": ours(row["student"]), "teacher": ours(row["teacher"])}


def test_the_list_is_the_31_rows(rows: list[dict[str, str]]) -> None:
    assert len(rows) == 31
    assert sorted(map(command_of, rows)) == sorted(EXPERIMENTS)
    names = [re.search(r"experiment=(\w+)", command)[1] for command in EXPERIMENTS]  # type: ignore[index]
    assert sorted(names) == [name for name in options("experiment") if name.startswith(("cifar100", "imagenet"))]
    for name in names:
        assert recipe_command(name) == ("train" if name.endswith("_baseline") else "mimic")


@pytest.mark.parametrize("part", [slice(0, None, 10), pytest.param(slice(None), marks=pytest.mark.slow)])
def test_every_column_is_the_published_one(rows: list[dict[str, str]], part: slice) -> None:
    """Fast: wrn_40_2 alone and a vanilla one, a projected student, ImageNet; slow: all."""
    for row in rows[part]:
        settings = job_of(command_of(row)).settings
        found, wanted = as_row(settings, row), published(row)
        assert {name: (found[name], wanted[name]) for name in found if found[name] != wanted[name]} == {}, row
        dataset, values = settings.dataset, plain(settings)
        is_cifar = row["dataset"] == "cifar100"
        assert (dataset.task, dataset.metric) == ("singlelabel", "top1")
        assert dataset.mean == ([0.5071, 0.4867, 0.4408] if is_cifar else [0.485, 0.456, 0.406])
        assert dataset.std == ([0.2675, 0.2565, 0.2761] if is_cifar else [0.229, 0.224, 0.225])
        augment = {"flip": 0.5, "brightness": 0, "contrast": 0, "saturation": 0, "pad": 4 if is_cifar else 0}
        assert {name: values["augment"][name] for name in augment} == augment
        assert settings.average == (10 if "10 epochs" in row["result"] else 0)
        assert (settings.select, settings.ema, settings.optimizer, settings.precision) == ("last", 0, "sgd", "fp32")


@pytest.mark.slow
def test_projections_are_where_widths_differ(rows: list[dict[str, str]]) -> None:
    for row in rows:
        if row["teacher"]:
            differ = row["student_feature_width"] != row["teacher_feature_width"]
            assert job_of(command_of(row)).settings.student.projection is differ


def test_numbers_are_those_of_the_table(rows: list[dict[str, str]]) -> None:
    for row in rows:
        listed = EXPERIMENTS[command_of(row)]
        assert listed.expected_top1 == number(row["mimic_top1"])
        columns = {"alone": "alone_top1", "KD": "kd_top1", "CRD": "crd_top1"}
        pairs = [f"{name} {float(row[key]):g}" for name, key in columns.items() if row[key]]
        assert listed.benchmark == ", ".join(pairs)
        assert (listed.start, listed.is_published, listed.expected_mAP) == ("random weights", True, None)


@pytest.mark.slow
def test_plain_commands_are_the_published_ones() -> None:
    """Without a recipe the data set itself asks for one stage, lshl2_s and cross entropy."""
    recipe = job_of("lshfm mimic experiment=cifar100_resnet32x4_resnet8x4").settings
    typed = job_of("lshfm mimic dataset=cifar100 teacher=resnet32x4 student=resnet8x4").settings
    for name in ("epochs", "lr", "batch_size", "schedule", "drop_last", "average", "augment", "label_loss"):
        assert getattr(typed, name) == getattr(recipe, name), name
    assert (typed.loss.option, typed.loss.beta, typed.stage.name) == ("lshl2_s", 6.0, "2")
    assert (typed.student.init, typed.student.projection) == ("none", "needed")
    train = job_of("lshfm train dataset=cifar100 model=resnet32x4").settings
    assert (train.loss.option, train.average, train.epochs) == ("ce", 0, 240)
    manifest = job_of("lshfm mimic dataset=manifest dataset.task=singlelabel").settings
    assert (manifest.label_loss.option, manifest.loss.option, manifest.dataset.metric) == ("ce", "lshl2_s", "top1")
    rival = job_of("lshfm mimic dataset=cifar100 loss=kd").settings
    assert (rival.loss.beta, rival.loss.gamma, rival.stage.name) == (0.9, 0.1, "2")


@pytest.mark.slow
def test_names_of_runs_say_what_was_typed_alone() -> None:
    job = job_of("lshfm mimic dataset=cifar100 teacher=resnet32x4 student=resnet8x4")
    assert mimic_name(job, "resnet32x4") == "cifar100_resnet32x4_resnet8x4_lshl2_s_s0_stage2"
    assert train_name(job_of("lshfm train dataset=cifar100 model=wrn_40_2")) == "cifar100_wrn_40_2_ce_s0"
    names = {train_name(job_of(command)) for command in EXPERIMENTS if " train " in command}
    assert len(names) == 15
    assert "cifar100_ShuffleV1_ce_s0_lr-0.01" in names


def test_a_recipe_says_of_itself_command_and_number(rows: list[dict[str, str]]) -> None:
    for row in rows:
        name = re.search(r"experiment=(\w+)", command_of(row))[1]  # type: ignore[index]
        package, command, expected = (CONF_DIR / "experiment" / f"{name}.yaml").read_text().splitlines()[:3]
        assert package == "# @package _global_"
        teacher = " teacher=PATH" if row["teacher"] else ""
        assert command == f"# lshfm {row['command'].split()[0]} experiment={name} dataset.root=DIR{teacher}"
        assert expected.startswith(f"# Expected: {row['mimic_top1'] or 'not published'}")
