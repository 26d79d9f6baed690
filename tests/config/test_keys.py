"""Settings as classes and as the plain values that they were made from."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lshfm.config.catalogue import options
from lshfm.config.check import check, group_of, settings_of
from lshfm.config.compose import compose, conf_folder
from lshfm.config.groups import (
    ChosenLoss,
    Dataset,
    Hashing,
    LabelLoss,
    MimicLoss,
    Network,
    Stage,
    Student,
    Teacher,
    Temperature,
)
from lshfm.config.keys import Group, key_fields, plain, without_code
from lshfm.config.schema import COMMANDS, Check, Eval, Mimic, Train
from lshfm.config.words import rewrite

ROOT = Path(__file__).resolve().parents[2]
GIVEN = {"timm": ["model.arch=resnet26d"], "shapes": []}
LOSSES = [*options("loss"), "[lsh,kl]", "[l2,kl_sigmoid,lshl2]"]
COMPOSED = [
    *(("train", [f"dataset={name}", *GIVEN.get(name, ["dataset.root=x"])]) for name in options("dataset")),
    *(("train", [f"model={name}", *GIVEN.get(name, [])]) for name in options("model")),
    *(("train", [f"loss={name}"]) for name in options("label_loss")),
    *(("mimic", [f"loss={name}", "stage=2"]) for name in LOSSES),
    *(("mimic", [f"stage={name}", "label_loss=asl"]) for name in options("stage")),
    ("mimic", ["teacher=some.ckpt", "student=resnet14"]),
    ("mimic", ["teacher=resnet8_GMP", "student.init=none", "loss.hash_num=8", "loss.std=0.1"]),
    ("mimic", ["experiment=voc2007_resnet18_mimic", "dataset.root=x", "stage=2"]),
    ("eval", ["checkpoint=x", "dataset=shapes", "model=resnet20"]),
    ("eval", ["checkpoint=x", "dataset=shapes", "model=resnet20", "teacher=resnet8_GMP"]),
    ("check", ["dataset=manifest", "dataset.root=x", "format=json"]),
]


def chosen(settings: Any) -> dict[str, Any]:
    """The option of each group."""
    return {name: value.option for name, value in vars(settings).items() if isinstance(value, Group)}


@pytest.mark.parametrize(("command", "words"), COMPOSED, ids=lambda value: " ".join(value))
def test_settings_come_back_from_their_plain_values(command: str, words: list[str]) -> None:
    keys = COMMANDS[command]
    with conf_folder():
        settings = compose(keys, rewrite(command, words)).settings  # type: ignore[type-var]
    values = plain(settings)
    check(values, keys)
    assert values == plain(settings)
    assert settings_of(keys, values, chosen(settings)) == settings


NODES: list[tuple[type[Group], dict[str, Any]]] = [
    (Network, {"_target_": "a.B", "arch": "x", "pool": None, "name": "n", "weights": "none"}),
    (Network, {"_target_": "a.B", "width": 3}),  # neither name nor weights
    (Network, {"width": None}),
    (Teacher, {"path": "x.ckpt"}),
    (Teacher, {"_target_": "a.B", "pool": "GMP", "name": "n", "path": "x.ckpt"}),
    (Student, {"projection": "auto", "init": None}),  # of a student that nobody chose
    (Student, {"projection": True, "init": "none", "_target_": "a.B", "weights": "w"}),
    (LabelLoss, {"_target_": "a.B"}),
    (LabelLoss, {"_target_": "a.B", "name": "asl", "clip": 0.05}),
    (MimicLoss, {"beta": 1.0, "gamma": 0.5, "alpha": 0.0, "name": "l2",
                 "l2": {"kind": "feature", "weight": 1.0, "terms": {}}}),
    (MimicLoss, {"beta": 1.0, "gamma": 1.0, "alpha": 0.0, "temperature": 4.0}),
    (MimicLoss, {"beta": 1.0, "gamma": 1.0, "alpha": 0.0, "temperature": 4.0, "hash_num": None, "std": None,
                 "bias": "median",
                 "bias_views": "plain", "form": "bce"}),
    (Stage, {"name": "1"}),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "node"), NODES)
def test_a_groups_node_comes_back(keys: type[Group], node: dict[str, Any]) -> None:
    group = group_of(keys, node, "option")
    assert (group.option, group.plain()) == ("option", node)
    assert group_of(keys, group.plain() or {}, "option") == group


def test_what_an_option_lacks_is_none_and_stays_away() -> None:
    network = group_of(Network, {"_target_": "a.B", "weights": None}, "mine")
    assert network == Network("mine", {"_target_": "a.B"}, name=None, weights=None)
    assert network.plain() == {"_target_": "a.B"}
    assert (network.target, network.title, network.pool, network.design) == ("a.B", "mine", None, {})


@pytest.mark.parametrize("keys", [Network, Teacher, Student, LabelLoss, MimicLoss, Stage, Dataset])
def test_a_group_that_nobody_chose_has_nothing(keys: type[Group]) -> None:
    group = group_of(keys, {}, None)
    assert all(getattr(group, each.name) is None for each in key_fields(keys))
    assert (group.option, group.own, group.target, group.plain(), group.without_code()) == (None, {}, None, None, {})


def test_parts_hold_the_keys_that_lie_in_a_losss_own_node() -> None:
    with conf_folder():
        lsh, kl, both, l2 = (
            compose(Mimic, [f"loss={name}", "stage='2'"]).settings.loss for name in ("lsh", "kl", "[lsh,kl]", "l2")
        )
    hashing = Hashing(hash_num=None, std=None, bias="median", bias_views="plain", form="bce")
    assert [(loss.hashing, loss.temperature) for loss in (lsh, kl, both, l2)] == [
        (hashing, None),
        (None, Temperature(4.0)),
        (hashing, Temperature(4.0)),
        (None, None),
    ]
    assert list(both.plain() or {}) == ["name", "beta", "gamma", "alpha", "hash_num", "std", "bias", "bias_views",
                                        "form", "temperature", "positions", "beta_warmup", "lsh", "kl"]  # fmt: skip
    assert l2.chosen == {"l2": ChosenLoss("feature", 1.0, {"l2": {"_target_": "lshfm.losses.features.L2"}})}


def test_plain_values_are_nested_as_conf_nests_them() -> None:
    with conf_folder():
        train = compose(Train, []).settings
        audit = compose(Check, []).settings
        unfilled = compose(Eval, ["checkpoint=x", "dataset=shapes", "model=resnet20"]).settings
    values = plain(train)
    assert values["schedule"] == {
        "cosine_epochs": 10, "steps": [], "warmup": 0, "warmup_steps": 0, "initial_lr": 0,
        "policy": "cosine",
    }  # fmt: skip
    own = {"pos_weight": None, "label_smoothing": 0.0}
    assert values["loss"] == {"name": "bce", "_target_": "lshfm.losses.classification.BCE", **own}
    assert (values["recipe"], plain(unfilled)["teacher"]) == (None, None)
    assert plain(audit).keys() == {"workers", "format", "dataset"}


def test_what_is_written_down_names_no_code() -> None:
    values = {"_target_": "a.B", "x": {"_target_": "c.D", "y": [1]}, "z": {}}
    assert without_code(values) == {"x": {"y": [1]}, "z": {}}
    assert LabelLoss("asl", {"_target_": "a.B", "clip": 0.1}, name="asl").without_code() == {"name": "asl", "clip": 0.1}


@pytest.mark.slow
def test_a_type_checker_sees_a_misspelt_key(tmp_path: Path) -> None:
    code = (
        "from lshfm.config.schema import Mimic, Train\n"
        "def f(s: Train) -> int: return s.batchsize\n"
        "def g(s: Mimic) -> str: return s.loss.beta\n"
        "def h(s: Train) -> int: return s.batch_size\n"
    )
    options_ = ["--config-file", "", "--cache-dir", str(tmp_path), "--no-error-summary"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options_, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.stdout.splitlines() == [
        '<string>:2: error: "Train" has no attribute "batchsize"; maybe "batch_size"?  [attr-defined]',
        '<string>:3: error: Incompatible return value type (got "float", expected "str")  [return-value]',
    ]
