"""Every network as a teacher, by itself and with each pooling."""

from pathlib import Path

import pytest
from hydra.core.config_store import ConfigStore

from lshfm.config.compose import compose, conf_folder
from lshfm.config.launch import options
from lshfm.config.teachers import is_teacher, register_teachers, without_pooling


@pytest.mark.parametrize(
    ("option", "pool"),
    [("resnet101", "GAP"), ("resnet101_GAP", "GAP"), ("resnet101_GMP", "GMP"), ("mobilenet_v2_GWP", "GWP")],
)
def test_a_teacher_is_the_network_with_its_pooling(option: str, pool: str) -> None:
    with conf_folder():
        values = compose("mimic", [f"teacher={option}"]).values
        network = compose("train", [f"model={without_pooling(option)}"]).values["model"]
    assert values["teacher"] == network | {"pool": pool, "path": None}


def test_every_network_is_a_teacher_in_four_spellings() -> None:
    register_teachers()
    for network in options("model"):
        assert all(is_teacher(f"{network}{suffix}") for suffix in ("", "_GAP", "_GMP", "_GWP"))
    assert is_teacher("checkpoint")
    assert not any(map(is_teacher, ("resnet101_GOP", "resnet101.yaml", "checkpoint_GMP", "", "resnet101.ckpt")))


@pytest.mark.parametrize(
    ("option", "network"),
    [
        ("resnet101_GMP", "resnet101"),
        ("mobilenet_v2", "mobilenet_v2"),
        ("mobilenet_v2_GAP", "mobilenet_v2"),
        ("GMP", "GMP"),
    ],
)
def test_without_pooling(option: str, network: str) -> None:
    assert without_pooling(option) == network


def test_a_users_own_network_is_a_teacher_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register_teachers()
    known = ConfigStore.instance().repo
    monkeypatch.setitem(known, "teacher", dict(known["teacher"]))  # other tests shall not see it
    (tmp_path / "model").mkdir()
    (tmp_path / "model/of_test_teachers.yaml").write_text("_target_: a.B\n")
    assert not is_teacher("of_test_teachers_GWP")
    register_teachers([tmp_path])
    assert is_teacher("of_test_teachers_GWP")
