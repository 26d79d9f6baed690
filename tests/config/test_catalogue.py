"""Groups and their options; every network as a teacher, by itself and with each pooling; a network by its file."""

from pathlib import Path

import pytest
from hydra.core.config_store import ConfigStore

from lshfm.config import CONF_DIR
from lshfm.config.catalogue import (
    group_folder,
    groups,
    is_teacher,
    loss_kind,
    network_of,
    options,
    register_teachers,
    task_node,
)
from lshfm.config.compose import compose, conf_folder
from lshfm.config.groups import Network, Teacher, without_pooling
from lshfm.config.schema import Mimic, Train
from lshfm.errors import InputError

CIFAR = "_target_: lshfm.models.cifar.cifar_classifier\n"


def test_groups_and_options() -> None:
    assert groups("train") == ["model", "loss", "dataset", "experiment"]
    assert groups("mimic") == ["teacher", "student", "loss", "label_loss", "stage", "dataset", "experiment"]
    assert groups("eval") == ["model", "teacher", "dataset"]
    assert group_folder("mimic", "student") == "model"
    assert (group_folder("train", "loss"), group_folder("mimic", "loss")) == ("label_loss", "loss")
    assert group_folder("mimic", "label_loss") == "label_loss"
    for command in ("train", "mimic"):
        for folder in (group_folder(command, group) for group in groups(command)):
            assert folder == "teacher" or options(folder) == sorted(path.stem for path in (CONF_DIR / folder).iterdir())


@pytest.mark.parametrize(
    ("option", "pool"),
    [("resnet101", "GAP"), ("resnet101_GAP", "GAP"), ("resnet101_GMP", "GMP"), ("mobilenet_v2_GWP", "GWP")],
)
def test_a_teacher_is_the_network_with_its_pooling(option: str, pool: str) -> None:
    with conf_folder():
        teacher = compose(Mimic, [f"teacher={option}"]).settings.teacher
        network = compose(Train, [f"model={without_pooling(option)}"]).settings.model
    own = network.own | {"pool": pool}
    assert teacher == Teacher(option, own, name=network.name, weights=network.weights, path=None)


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


def models(folder: Path, **files: str) -> Path:
    """A folder of the user's own with these networks."""
    (folder / "model").mkdir()
    for name, text in files.items():
        (folder / f"model/{name}.yaml").write_text(text)
    return folder


def test_a_network_by_its_file_alone() -> None:
    own = {"_target_": "lshfm.models.cifar.cifar_classifier", "arch": "resnet8", "pool": "GAP", "projection": None}
    assert network_of("resnet8", {}) == Network("resnet8", own, name="resnet8", weights="none")


def test_saved_values_win_over_the_file_where_it_has_the_key() -> None:
    """But for starting weights, which a trained network needs no more; mimic's projection no file need name."""
    found = network_of("resnet34", {"pool": "GMP", "weights": "imagenet", "name": "mine", "stranger": 3})
    assert (found.option, found.name, found.weights, found.pool) == ("resnet34", "mine", "none", "GMP")
    assert "stranger" not in found.own
    assert network_of("resnet8", {"projection": 64}).design == {"arch": "resnet8", "pool": "GAP", "projection": 64}


def test_a_network_of_the_users_own(tmp_path: Path) -> None:
    folder = models(tmp_path, mine=f"{CIFAR}arch: resnet14\n", resnet8=f"{CIFAR}arch: resnet20\n")
    mine = network_of("mine", {}, [folder])
    assert (mine.option, mine.name, mine.weights, mine.own["arch"]) == ("mine", "mine", "none", "resnet14")
    assert network_of("resnet8", {}, [folder]).own["arch"] == "resnet20"  # as Hydra, the user's before ours
    assert network_of("resnet8", {}).own["arch"] == "resnet8"
    assert network_of("mine", {"projection": 16}, [folder]).own["projection"] == 16
    assert "projection" not in network_of("mine", {"projection": None}, [folder]).own


def test_a_file_may_start_from_others_of_its_group(tmp_path: Path) -> None:
    folder = models(
        tmp_path,
        mine="defaults: [resnet8, _self_]\npool: GMP\nwidth: 2\n",
        absolute="defaults: [/model/resnet8@_here_]\npool: GWP\n",
        below="defaults: [_self_, mine]\npool: GWP\narch: resnet14\n",
    )
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts/deep.yaml").write_text("depth: 5\n")
    (tmp_path / "model/deep.yaml").write_text(f"defaults: [/parts/deep@_here_]\n{CIFAR}")
    mine = network_of("mine", {}, [folder])
    assert mine.own == network_of("resnet8", {}).own | {"pool": "GMP", "width": 2}
    assert (network_of("absolute", {}, [folder]).pool, network_of("deep", {}, [folder]).own["depth"]) == ("GWP", 5)
    below = network_of("below", {}, [folder])  # what comes later wins
    assert (below.pool, below.own["arch"], below.name) == ("GMP", "resnet8", "resnet8")


@pytest.mark.parametrize("name", ["mine", "absolute", "below", "plain"])
def test_a_file_read_alone_is_as_hydra_composes_it(tmp_path: Path, name: str) -> None:
    texts = {
        "mine": "defaults: [resnet8, _self_]\npool: GMP\nwidth: 2\n",
        "absolute": "defaults: [/model/resnet8@_here_]\npool: GWP\n",
        "below": "defaults: [_self_, resnet8]\npool: GWP\nname: other\n",
        "plain": f"{CIFAR}arch: resnet14\nname: plain\nweights: none\n",
    }
    folder = models(tmp_path, **{name: texts[name]})
    with conf_folder([folder]):
        composed = compose(Train, [f"model={name}"]).settings.model
    assert network_of(name, {}, [folder]) == composed


def test_a_key_without_a_value_is_the_checkpoints_to_fill(tmp_path: Path) -> None:
    folder = models(tmp_path, wide=f"{CIFAR}arch: ???\nname: ${{.arch}}\n")
    found = network_of("wide", {"arch": "resnet14"}, [folder])
    assert (found.name, found.own["arch"]) == ("resnet14", "resnet14")
    assert network_of("timm", {"arch": "resnet26d"}).name == "resnet26d"
    with pytest.raises(InputError, match=r"^model=wide: its file cannot be read by itself: "):
        network_of("wide", {}, [folder])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- resnet8\n", "mine.yaml: must hold keys, as KEY: value"),
        ("arch: [resnet8\n", "mine.yaml: cannot be read: "),
        ("defaults: [mine]\n", "model=mine: no such model"),  # a circle has no end
        ("defaults: [resnet88]\n", "model=resnet88: no such model (did you mean 'resnet8'?)"),
        (f"{CIFAR}arch: ${{nowhere}}\n", "model=mine: its file cannot be read by itself: "),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, text: str, message: str) -> None:
    folder = models(tmp_path, mine=text)
    with pytest.raises(InputError) as caught:
        network_of("mine", {}, [folder])
    assert message in str(caught.value)


def test_an_unknown_network_names_the_nearest(tmp_path: Path) -> None:
    folder = models(tmp_path, frobnicator=CIFAR)
    with pytest.raises(InputError) as caught:
        network_of("frobnicato", {}, [folder])
    said = str(caught.value)
    assert said.startswith("model=frobnicato: no such model (did you mean 'frobnicator'?). There are: ")


def test_a_task_by_its_name() -> None:
    assert task_node("multilabel") == {"_target_": "lshfm.tasks.multilabel.MultiLabel"}
    with pytest.raises(InputError, match=r"^task=multilable: no such task \(did you mean 'multilabel'\?\)"):
        task_node("multilable")


def test_the_kind_of_a_loss() -> None:
    assert {name: loss_kind(name) for name in ("asl", "lshl2", "l1", "kl", "kl_sigmoid", "resnet8")} == {
        "asl": "label",
        "lshl2": "feature",
        "l1": "feature",
        "kl": "logit",
        "kl_sigmoid": "logit",
        "resnet8": None,
    }


def test_the_kind_of_a_loss_of_the_users_own(tmp_path: Path) -> None:
    """One that is made of others says no kind of its own."""
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss/mine.yaml").write_text("defaults: [l2, kl, _self_]\nname: mine\n")
    with conf_folder([tmp_path]):
        assert loss_kind("mine") == "feature or logit"
