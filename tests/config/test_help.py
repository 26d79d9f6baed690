"""The pages of help: every group with its options, every key with its value."""

import re
from pathlib import Path

import pytest
from hydra.core.config_store import ConfigStore

from lshfm.config.catalogue import groups, in_order, options
from lshfm.config.compose import compose, conf_folder
from lshfm.config.help import EXAMPLES, command_help
from lshfm.config.keys import plain
from lshfm.config.schema import COMMANDS

GIVEN = {
    "train": ["dataset=shapes", "model=resnet20"],
    "mimic": [],
    "eval": ["dataset=shapes", "model=resnet20", "teacher=resnet20"],
    "check": [],
    "predict": [],
    "export": ["dataset=shapes", "model=resnet20"],
}
NEEDED = {"eval": ["checkpoint=x"], "predict": ["checkpoint=x", "input=x"]}
NEEDED |= {"export": ["checkpoint=x", "format=onnx"]}
OF_DATASET = {"dataset.size", "dataset.holdout", "dataset.metric", "dataset.cache"}
OF_GROUPS = {
    "train": {"model.pool", "model.weights"},
    "mimic": {"student.projection", "student.init", "student.pool", "teacher.pool", "loss.beta", "loss.hash_num"},
    "eval": {"model.pool", "model.weights", "teacher.pool"},
    "check": set(),
    "predict": set(),
    "export": {"model.pool"},
}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_lists_every_group_and_key_with_its_value(command: str) -> None:
    page = command_help(command, GIVEN[command])
    keys = [line.split()[0] for line in page.splitlines() if line.startswith("  ") and "[" in line]
    with conf_folder():
        words = [*GIVEN[command], *NEEDED.get(command, [])]
        values = plain(compose(COMMANDS[command], words).settings)
    single = {name for name, value in values.items() if not isinstance(value, dict)}
    assert single - {"recipe"} <= set(keys)
    assert {*(OF_DATASET if "dataset" in values else ()), *OF_GROUPS[command]} <= set(keys)
    assert len(keys) == len(set(keys))
    assert all(f"\n  {group}: " in page for group in groups(command))
    assert all(f"  {example}" in page for example in EXAMPLES[command])
    assert "???" not in page


def listed(page: str, group: str) -> list[str]:
    """The options that a page of help lists for a group."""
    text = re.split(r"\n(?!      )", page.partition(f"\n  {group}: ")[2])[0]
    return re.sub(r" \(.*", "", " ".join(text.split())).split(", ")


def test_help_lists_only_what_the_command_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(ConfigStore.instance().repo, "teacher", raising=False)  # what other tests made known
    train, mimic = command_help("train", []), command_help("mimic", [])
    assert listed(train, "loss") == listed(mimic, "label_loss") == ["asl", "bce", "ce", "detector"]
    of_one_label = ["at", "dkd", "hint", "kd", "lsh_s", "lshl2_s", "rkd"]
    assert sorted(listed(mimic, "loss")) == sorted(["kl", "kl_sigmoid", "l1", "l2", "lsh", "lshl2", *of_one_label])
    assert listed(mimic, "stage") == ["1", "2", "both"]
    assert listed(mimic, "teacher") == listed(mimic, "student") == in_order(options("model"))
    assert listed(train, "experiment") == in_order(name for name in options("experiment") if "_baseline" in name)
    assert listed(mimic, "experiment") == in_order(name for name in options("experiment") if "_baseline" not in name)
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
    for group in ("loss", "label_loss"):
        (tmp_path / group).mkdir()
    (tmp_path / "loss/mine.yaml").write_text("defaults: [l2, _self_]\nname: mine\n")
    (tmp_path / "label_loss/label.yaml").write_text("_target_: a.B\nname: label\n")
    with conf_folder([tmp_path]):
        train, mimic = command_help("train", []), command_help("mimic", [])
    assert (set(listed(train, "loss")), set(listed(mimic, "label_loss"))) == (
        {"asl", "bce", "ce", "detector", "label"},
    ) * 2
    assert "mine" in listed(mimic, "loss")
    assert "label" not in listed(mimic, "loss")
