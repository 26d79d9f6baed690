"""Hydra's complaints in our words, and what commands and groups there are."""

import sys

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
    assert groups("eval") == ["model", "dataset"]
    for group in groups("train"):
        assert options(group) == sorted(path.stem for path in (CONF_DIR / group).iterdir())


def test_recipes_name_their_command() -> None:
    assert {recipe_command(name) for name in options("experiment")} == {"train"}
    assert recipe_command("none_such") is None


@pytest.mark.parametrize(
    ("word", "does"), [("lr=0.1", True), ("a=[1,2]", True), ("lr", False), ("root=~/x", False), ("a=b=(c", False)]
)
def test_what_the_grammar_takes(word: str, does: bool) -> None:
    assert parses(word) is does


@pytest.mark.parametrize("command", COMMANDS)
def test_help_lists_every_group_and_key_with_its_value(command: str) -> None:
    page = command_help(command, ["dataset=shapes", "model=resnet20"])
    keys = [line.split()[0] for line in page.splitlines() if line.startswith("  ") and "[" in line]
    with conf_folder():
        values = compose(
            command, ["dataset=shapes", "model=resnet20", *(["checkpoint=x"] * (command == "eval"))]
        ).values
    plain = {name for name, value in values.items() if not isinstance(value, dict)}
    assert plain - {"recipe"} <= set(keys)
    assert {"dataset.size", "dataset.holdout", "dataset.metric", "dataset.cache", "model.pool", "model.weights"} <= set(
        keys
    )
    assert all(f"\n  {group}: " in page for group in groups(command))
    assert all(f"  {example}" in page for example in EXAMPLES[command])
    assert "???" not in page
