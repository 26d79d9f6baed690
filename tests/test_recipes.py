"""The published experiments: every column of their table against what the listed commands lead to."""

import csv
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from lshfm.config import CONF_DIR
from lshfm.config.catalogue import options
from lshfm.config.compose import Job, compose, conf_folder
from lshfm.config.groups import LabelLoss
from lshfm.config.keys import plain
from lshfm.config.recipes import Experiment, recipe_command, recipes
from lshfm.config.schema import COMMANDS, Mimic, Train
from lshfm.config.words import for_stage, rewrite
from lshfm.runs.naming import train_name

SPLITS = {"voc2007": ("trainval", "test"), "coco2014": ("train2014", "val2014")}
EXPERIMENTS = {e.command: e for recipe in recipes() if recipe.dataset in SPLITS for e in recipe.experiments}
NAMES = [name for name in options("experiment") if not name.startswith(("cifar", "imagenet", "voc07_", "voc0712_"))]
PUBLISHED = [command for command, e in EXPERIMENTS.items() if e.is_published]
PAIRS = [name for name in NAMES if recipe_command(name) == "mimic"]
# Published mAP; the others have none.
EXPECTED = {
    "lshfm train experiment=voc2007_resnet101_baseline": 93.27,
    "lshfm train experiment=voc2007_resnet34_baseline": 91.69,
    "lshfm train experiment=coco_resnet101_baseline": 77.67,
    "lshfm train experiment=coco_resnet101_GMP_baseline": 79.57,
    "lshfm mimic experiment=voc2007_resnet50_mimic stage=2 loss=lshl2": 93.17,
    "lshfm mimic experiment=voc2007_mobilenetv2_mimic stage=2 loss=lshl2": 90.14,
    "lshfm mimic experiment=coco_resnet50_mimic stage=2 loss=lshl2": 77.16,
    "lshfm mimic experiment=coco_mobilenetv2_mimic stage=2 loss=lshl2": 73.73,
}
NUMBERS = ("teacher_mAP", "gamma", "beta", "epochs", "lr", "weight_decay", "cosine_epochs", "batch_size",
           "eval_batch_size", "size", "temperature")  # fmt: skip
SHARED = {
    "optimizer": "sgd",
    "momentum": 0.9,
    "accumulate": 1,
    "ema": 0,
    "freeze": [],
    "augment": {
        "flip": 0.5,
        "brightness": 0.3,
        "contrast": 0.3,
        "saturation": 0.3,
        "pad": 0,
        "area": None,
        "short_side": None,
        "mixup": 0,
        "cutmix": 0,
        "randaugment": 0,
        "magnitude": 9,
    },
    "drop_last": True,
    "average": 0,
    "precision": "fp32",
    "select": "last",
    "seed": 0,
    "gpus": None,
}
SHARED_OF_DATA = {
    "holdout": 0,
    "skip_broken": False,
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
}


@pytest.fixture(scope="module")
def reference() -> Path:
    folder = Path(__file__).resolve().parents[2] / "shared" / "reference"
    if not folder.is_dir():
        pytest.skip(f"no published recipes at {folder}")
    return folder


@pytest.fixture(scope="module")
def rows(reference: Path) -> list[dict[str, str]]:
    with (reference / "recipes_multilabel.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@cache
def job_of(command: str) -> Job[Any]:
    """What a listed command leads to, typed as a user types it."""
    _, name, *words = command.split()
    overrides = rewrite(name, [*words, "dataset.root=/x"])
    stage = re.search(r"stage=(\d)", command)
    with conf_folder():
        return compose(COMMANDS[name], for_stage(stage[1], overrides) if stage else overrides)


def command_of(row: Mapping[str, str]) -> str:
    """The command that should be listed for a row: its folder, its stage, and its loss by the loss column."""
    folder, _, file = row["experiment"].rpartition("/")
    recipe = folder.replace("/", "_")
    if row["command"] == "train":
        return f"lshfm train experiment={recipe}_{file.removesuffix('_BCE')}"
    return f"lshfm mimic experiment={recipe}_mimic stage={row['command'][-1]} loss={row['loss']}"


def published(row: Mapping[str, str]) -> dict[str, Any]:
    """A row in the terms of `as_row`: numbers as numbers, and what a student starts from in a word."""
    terms: dict[str, Any] = dict(row) | {name: float(row[name]) for name in NUMBERS if row[name]}
    terms["student"] = {"vgg19bn": "vgg19_bn"}.get(row["student"], row["student"])
    if stage1 := re.fullmatch(r"stage 1: .*_(l2|lsh|lshl2)_1\.ckpt", row["student_init"]):
        terms["student_init"] = f"stage 1 with {stage1[1]}"
    elif row["student_init"].startswith(f"{terms['student']}-"):  # torchvision's ImageNet weights
        terms["student_init"] = "imagenet"
    del terms["experiment"]
    return terms


PLAIN_BCE = {"_target_": "lshfm.losses.classification.BCE", "pos_weight": None, "label_smoothing": 0.0}


def as_row(settings: Train | Mimic) -> dict[str, Any]:
    """A composed experiment in the columns of the published table."""
    temperature = settings.loss.temperature if isinstance(settings, Mimic) else None
    names = ("epochs", "lr", "weight_decay", "batch_size", "eval_batch_size")
    return {
        "dataset": settings.dataset.option,
        "loss": settings.loss.option,
        "cosine_epochs": settings.schedule.cosine_epochs,
        "size": settings.dataset.size,
        "gpus": settings.recipe["hardware"].removesuffix(" GPUs"),
        **{name: getattr(settings, name) for name in names},
        **dict.fromkeys(("teacher", "teacher_pool", "teacher_mAP", "hash_form", "hash_num", "bias", "beta"), ""),
        "temperature": temperature.temperature if temperature else "",
        **(of_mimic(settings) if isinstance(settings, Mimic) else of_train(settings)),
    }


def of_train(settings: Train) -> dict[str, Any]:
    model, bce = settings.model, LabelLoss("bce", PLAIN_BCE, name="bce")
    return {
        "command": "train",
        "student": model.own["arch"],
        "student_pool": model.pool,
        "projection": model.own["projection"] or "none",
        "student_init": model.weights,
        "gamma": 1.0 if settings.loss == bce else "?",
    }


def of_mimic(settings: Mimic) -> dict[str, Any]:
    loss, stage, student, teacher = settings.loss, settings.stage.name, settings.student, settings.teacher
    hashing = {}
    if said := loss.hashing:
        hashing = {"hash_form": said.form.upper(), "bias": said.bias, "hash_num": str(said.hash_num or "32*D")}
    return {
        "command": f"mimic stage {stage}",
        "student": student.own["arch"],
        "student_pool": student.pool,
        "projection": {True: "forced", False: "none"}[student.projection],
        "student_init": start(settings),
        "teacher": teacher.own["arch"],
        "teacher_pool": teacher.pool,
        "teacher_mAP": settings.recipe["teacher_mAP"],
        "gamma": loss.gamma if stage == "2" else "",  # stage 1 sees no labels
        "beta": loss.beta,
        **hashing,
    }


def start(settings: Mimic) -> str:
    """What the student starts from, and what the recipe says of it beside."""
    student, stage = settings.student, str(settings.stage.name)
    entry = settings.published[stage][settings.loss.option]
    assert student.weights == "imagenet"
    if stage == "1" or student.init:
        assert student.init == (None if stage == "1" else "imagenet")
        return f"file: {entry['unreleased']}" if "unreleased" in entry else "imagenet"
    assert student.projection is True
    return f"stage 1 with {entry['stage1_loss']}"


def shown_start(row: Mapping[str, Any]) -> str:
    """How the list says what a row starts from."""
    if row["student_init"].startswith("file: "):
        return "ImageNet weights, instead of a file never released"
    return {"imagenet": "ImageNet weights"}.get(row["student_init"], row["student_init"])


@pytest.mark.parametrize(
    "command", [pytest.param(c, marks=pytest.mark.slow) if "=coco_" in c else c for c in PUBLISHED]
)
def test_every_hyper_parameter_is_the_published_one(rows: list[dict[str, str]], command: str) -> None:
    settings, own = job_of(command).settings, [published(row) for row in rows if command_of(row) == command]
    assert own
    for row in own:
        assert as_row(settings) == row
        assert EXPERIMENTS[command].start == shown_start(row)
    values = plain(settings)
    dataset = values["dataset"]
    assert {name: values[name] for name in SHARED} == SHARED
    assert {name: dataset[name] for name in SHARED_OF_DATA} == SHARED_OF_DATA
    assert (dataset["train_split"], dataset["eval_split"]) == SPLITS[settings.dataset.option]
    plain_cosine = {"cosine_epochs": values["epochs"], "steps": [], "warmup": 0, "initial_lr": 0, "policy": "cosine"}
    assert values["schedule"] == plain_cosine | {"warmup_steps": 0}
    assert values.get("label_loss", {}).get("name", "bce") == "bce"


def test_the_list_is_the_sixty_rows(rows: list[dict[str, str]]) -> None:
    """Two rows are one experiment: a file named LSHL2 that trains lsh."""
    commands = [command_of(row) for row in rows]
    assert (len(rows), len(set(commands)), sorted(set(commands))) == (60, 59, sorted(PUBLISHED))
    assert commands.count("lshfm mimic experiment=coco_mobilenetv2_mimic stage=1 loss=lsh") == 2


def test_files_and_recipes_are_the_same() -> None:
    names = {re.search(r"experiment=(\w+)", command)[1] for command in EXPERIMENTS}  # type: ignore[index]
    assert sorted(names) == NAMES
    assert (len(names), len(PAIRS)) == (24, 9)


def test_expected_numbers_are_the_published_ones(reference: Path) -> None:
    text = (reference / "published_results.md").read_text() + (reference / "recipes_multilabel.csv").read_text()
    assert [number for number in EXPECTED.values() if str(number) not in text] == []
    assert {command: e.expected_mAP for command, e in EXPERIMENTS.items() if e.expected_mAP} == EXPECTED


def test_a_stage_1_without_a_row_takes_its_pairs_settings() -> None:
    without = {command: e for command, e in EXPERIMENTS.items() if not e.is_published}
    assert {command.partition("experiment=")[2] for command in without} == {
        "coco_mobilenetv2_mimic stage=1 loss=lshl2",
        "coco_mobilenetv2_GMP_mimic stage=1 loss=l2",
        "coco_mobilenetv2_GMP_mimic stage=1 loss=lsh",
        "coco_resnet50_GMP_mimic stage=1 loss=l2",
        "coco_resnet50_GMP_mimic stage=1 loss=lsh",
    }
    for command in without:
        found = job_of(command).settings
        assert (found.loss.beta, found.student.projection, found.epochs) == (1, True, 60)
        assert hash_num(found) == (None if found.loss.option == "l2" else 2048)


def test_every_stage_1_that_a_stage_2_starts_from_is_listed() -> None:
    for command, e in EXPERIMENTS.items():
        if match := re.fullmatch("stage 1 with (l2|lsh|lshl2)", e.start):
            assert re.sub("stage=2 loss=.*", f"stage=1 loss={match[1]}", command) in EXPERIMENTS


def test_recipes_name_their_command() -> None:
    for name in NAMES:
        assert recipe_command(name) == {"baseline": "train", "mimic": "mimic"}[name.rpartition("_")[2]]
    assert recipe_command("none_such") is None


def test_what_an_unreleased_file_is_called() -> None:
    said = {command for command, e in EXPERIMENTS.items() if "never released" in e.start}
    assert said == {f"lshfm mimic experiment=voc2007_resnet50_mimic stage=2 loss={x}" for x in ("l2", "lsh", "lshl2")}


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_says_of_itself_command_number_and_hardware(name: str) -> None:
    package, command, expected = (CONF_DIR / "experiment" / f"{name}.yaml").read_text().splitlines()[:3]
    number = next((n for key, n in EXPECTED.items() if f"experiment={name}" in key.split()), None)
    metric = "voc2010" if name.startswith("voc2007") else "uninterpolated"
    with_loss, teacher = (" with lshl2", " teacher=PATH") if name in PAIRS else ("", "")
    said = f"{number} {metric} mAP{with_loss}" if number else "not published"
    assert package == "# @package _global_"
    assert command == f"# lshfm {recipe_command(name)} experiment={name} dataset.root=DIR{teacher}"
    images = 4 if name.startswith("voc2007") else 8
    assert expected == (f"# Expected: {said}. Published on 4 GPUs in fp32, so BatchNorm saw {images} images at a time.")


def test_runs_of_different_baselines_have_different_names() -> None:
    names = {train_name(job_of(command)) for command in EXPERIMENTS if command.startswith("lshfm train")}
    assert len(names) == 15
    assert "coco2014_resnet101_GMP_bce_s0_epochs-30_bn_group_size-8" in names
    assert "voc2007_resnet34_bce_s0_bn_group_size-4" in names


def hash_num(settings: Mimic) -> int | None:
    """The number of hash functions; None too for losses without any."""
    return settings.loss.hashing.hash_num if settings.loss.hashing else None


def losses_without_a_row(pair: str) -> list[tuple[str, str]]:
    """Stage and loss of all that the pair's recipe says nothing of."""
    every = [("1", loss) for loss in ("l1", "l2", "lsh", "lshl2")]
    every += [("2", loss) for loss in ("l1", "l2", "lsh", "lshl2", "kl", "kl_sigmoid")]
    return [
        (stage, loss)
        for stage, loss in every
        if f"lshfm mimic experiment={pair} stage={stage} loss={loss}" not in EXPERIMENTS
    ]


@pytest.mark.parametrize("pair", [PAIRS[0], *(pytest.param(pair, marks=pytest.mark.slow) for pair in PAIRS[1:])])
def test_a_loss_without_a_row_takes_beta_1_and_the_defaults(pair: str) -> None:
    assert losses_without_a_row(pair)
    for stage, loss in losses_without_a_row(pair):
        found = job_of(f"lshfm mimic experiment={pair} stage={stage} loss={loss}").settings
        assert (found.loss.beta, found.loss.gamma, hash_num(found)) == (1, 1, None)
        assert (found.student.projection, found.student.init) == ("auto", None)
        assert (found.epochs, found.lr, found.loss.option) == (60, 0.01, loss)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("stage=2", ("lshl2", 0.5, 8192, False, "imagenet", 60)),
        ("stage=1", ("lshl2", 1.0, 8192, True, None, 60)),
        ("stage=2 loss=lsh", ("lsh", 0.5, 8192, False, "imagenet", 60)),
        ("stage=2 loss.beta=7 epochs=3 student.projection=true", ("lshl2", 7.0, 8192, True, "imagenet", 3)),
        ("stage=2 loss.hash_num=64 student.init=none", ("lshl2", 0.5, 64, False, "none", 60)),
    ],
)
def test_what_is_typed_wins_over_the_recipe(words: str, expected: tuple[Any, ...]) -> None:
    found = job_of(f"lshfm mimic experiment=voc2007_resnet50_mimic {words}").settings
    loss, student = found.loss, found.student
    assert (loss.option, loss.beta, hash_num(found), student.projection, student.init, found.epochs) == expected


def test_an_experiment_is_a_plain_value() -> None:
    line = EXPERIMENTS["lshfm mimic experiment=voc2007_mobilenetv2_mimic stage=2 loss=kl"]
    assert line == Experiment(line.command, "stage 1 with l2", None, is_published=True)
