"""Hydra's complaints in our words, and what commands and groups there are."""

import re
import shutil
import sys
from pathlib import Path

import pytest
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from lshfm.config import CONF_DIR
from lshfm.config.compose import compose, conf_folder
from lshfm.config.help import EXAMPLES, command_help
from lshfm.config.launch import explain, groups, options, parses, recipe_command
from lshfm.config.schema import COMMANDS


def explained(monkeypatch: pytest.MonkeyPatch, command: str, *overrides: str) -> str:
    """What a user reads who gives these overrides."""
    monkeypatch.setattr(sys, "argv", ["lshfm", *overrides])
    with conf_folder(), pytest.raises((HydraException, OmegaConfBaseException, ValueError)) as caught:
        compose(command, overrides)
    return str(explain(command, caught.value))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["dataset=voc207"], "dataset=voc207: no such dataset (did you mean 'voc2007'?). There are: coco, coco2014,"),
        (["model=resnet35"], "model=resnet35: no such model (did you mean 'resnet"),
        (["loss=bec"], "loss=bec: no such loss (did you mean 'bce'?). There are: asl, bce"),
        (["experiment=voc2007_resnet34"], "(did you mean 'voc2007_resnet34_baseline'?)"),
        (["batchsize=3"], "batchsize: no such key or group (did you mean 'batch_size'?). See lshfm train --help"),
        (["modle=resnet34"], "modle: no such key or group (did you mean 'model'?)"),
        (["dataset.sise=3"], "dataset.sise: no such key or group (did you mean 'dataset.size'?)"),
        (["schedule.warm=1"], "schedule.warm: no such key or group (did you mean 'schedule.warmup'?)"),
        (["loss=asl", "loss.gama_neg=1"], "loss.gama_neg: no such key or group (did you mean 'loss.gamma_neg'?)"),
        (["loss.gamma_neg=1"], "loss.gamma_neg: no such key or group"),  # bce has none
        (["qqqqqq=1"], "qqqqqq: no such key or group. See lshfm train --help"),
        (["schedule=[]"], "schedule: no such key or group (did you mean"),
        (["lr"], "cannot read 'lr': an argument is GROUP=OPTION or KEY=VALUE"),
        (["lr=${nothing}"], "Interpolation key 'nothing' not found"),
        (["dataset=null"], "model=, loss=, dataset=, experiment= each take an option's name"),
        (["model=34"], "model=, loss=, dataset=, experiment= each take an option's name"),
    ],
)
def test_explanations(monkeypatch: pytest.MonkeyPatch, overrides: list[str], message: str) -> None:
    text = explained(monkeypatch, "train", *overrides)
    assert message in text
    assert "provider=" not in text
    assert "object_type" not in text


def test_commands_have_their_own_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "checkpont: no such key or group (did you mean 'checkpoint'?)" in explained(
        monkeypatch, "eval", "checkpont=x"
    )
    assert explained(monkeypatch, "eval", "epochs=3").startswith("epochs: no such key or group.")


def test_groups_and_options() -> None:
    assert groups("train") == ["model", "loss", "dataset", "experiment"]
    assert groups("mimic") == ["teacher", "student", "loss", "label_loss", "stage", "dataset", "experiment"]
    assert groups("eval") == ["model", "teacher", "dataset"]
    assert options("student") == options("model")
    assert options("label_loss") == options("loss")
    for group in groups("train"):
        assert options(group) == sorted(path.stem for path in (CONF_DIR / group).iterdir())


def test_recipes_name_their_command() -> None:
    for name in options("experiment"):
        assert recipe_command(name) == {"baseline": "train", "mimic": "mimic"}[name.rpartition("_")[2]]
    assert recipe_command("none_such") is None


@pytest.mark.parametrize(
    ("word", "does"), [("lr=0.1", True), ("a=[1,2]", True), ("lr", False), ("root=~/x", False), ("a=b=(c", False)]
)
def test_what_the_grammar_takes(word: str, does: bool) -> None:
    assert parses(word) is does


GIVEN = {
    "train": ["dataset=shapes", "model=resnet20"],
    "mimic": [],
    "eval": ["dataset=shapes", "model=resnet20", "teacher=resnet20"],
}
OF_GROUPS = {
    "train": {"model.pool", "model.weights"},
    "mimic": {"student.projection", "student.init", "student.pool", "teacher.pool", "loss.beta", "loss.hash_num"},
    "eval": {"model.pool", "model.weights", "teacher.pool"},
}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_lists_every_group_and_key_with_its_value(command: str) -> None:
    page = command_help(command, GIVEN[command])
    keys = [line.split()[0] for line in page.splitlines() if line.startswith("  ") and "[" in line]
    with conf_folder():
        values = compose(command, [*GIVEN[command], *(["checkpoint=x"] * (command == "eval"))]).values
    plain = {name for name, value in values.items() if not isinstance(value, dict)}
    assert plain - {"recipe"} <= set(keys)
    assert {"dataset.size", "dataset.holdout", "dataset.metric", "dataset.cache", *OF_GROUPS[command]} <= set(keys)
    assert len(keys) == len(set(keys))
    assert all(f"\n  {group}: " in page for group in groups(command))
    assert all(f"  {example}" in page for example in EXAMPLES[command])
    assert "???" not in page


def listed(page: str, group: str) -> list[str]:
    """The options that a page of help lists for a group."""
    text = re.split(r"\n(?!      )", page.partition(f"\n  {group}: ")[2])[0]
    return re.sub(r" \(.*", "", " ".join(text.split())).split(", ")


def test_help_lists_only_what_the_command_takes() -> None:
    train, mimic = command_help("train", []), command_help("mimic", [])
    assert listed(train, "loss") == listed(mimic, "label_loss") == ["asl", "bce"]
    assert listed(mimic, "loss") == ["kl", "kl_sigmoid", "l1", "l2", "lsh", "lshl2"]
    assert listed(mimic, "stage") == ["1", "2", "both"]
    assert listed(mimic, "teacher") == listed(mimic, "student") == options("model")
    assert listed(train, "experiment") == [name for name in options("experiment") if name.endswith("_baseline")]
    assert listed(mimic, "experiment") == [name for name in options("experiment") if name.endswith("_mimic")]
    words = " ".join(mimic.split())
    assert "(add _GMP or _GWP for the pooling; or a checkpoint's PATH or name)" in words
    assert "(several as [l2,kl_sigmoid])" in words
    assert "(several" not in train


def test_help_of_mimic_shows_what_its_words_lead_to() -> None:
    page = command_help("mimic", ["experiment=voc2007_resnet18_mimic", "stage='2'", "++stage1.lr=0.3"])
    shown = {line.split()[0]: line.rpartition("  [")[2].rstrip("]") for line in page.splitlines() if "  [" in line}
    found = [shown[key] for key in ("loss.beta", "student.projection", "student.arch", "teacher.arch", "dataset.root")]
    assert found == ["0.5", "true", "resnet18", "resnet34", "to be given"]
    assert (shown["stage1.KEY"], shown["stage2.KEY"]) == ("lr=0.3", "not set")
    assert "loss.temperature" not in shown  # lshl2 has none
    assert "published" not in shown


def test_help_keeps_an_option_of_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss/mine.yaml").write_text("defaults: [l2, _self_]\nname: mine\n")
    (tmp_path / "loss/label.yaml").write_text("_target_: a.B\nname: label\n")
    shutil.copytree(CONF_DIR, tmp_path, dirs_exist_ok=True)
    with conf_folder(tmp_path):
        train, mimic = command_help("train", []), command_help("mimic", [])
    assert (set(listed(train, "loss")), set(listed(mimic, "label_loss"))) == ({"asl", "bce", "label", "mine"},) * 2
    assert "mine" in listed(mimic, "loss")
    assert "label" not in listed(mimic, "loss")
