"""Checkpoints to use: ours, those of the published code, and bare weights."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lshfm.config.catalogue import dataset_of
from lshfm.config.compose import compose, conf_folder
from lshfm.config.schema import Train
from lshfm.errors import InputError
from lshfm.files.write import write_checkpoint
from lshfm.models.backbones import torchvision_classifier
from lshfm.models.cifar import cifar_classifier
from lshfm.runs import layout
from lshfm.runs.checkpoint import Checkpoint, fill, same_network
from lshfm.tasks.multilabel import MultiLabel

CLASSES = ["a", "b"]
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
PUBLISHED = {"backbone": "", "projection": "feat_fc.", "classifier": "classifier."}


def network() -> nn.Module:
    return cifar_classifier("resnet8", len(CLASSES), pool="GMP")


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    words = ["model=resnet8", "model.pool=GMP", "dataset.size=24", "lr=0.5", "dataset.mean=[0.5,0.4,0.3]"]
    with conf_folder():
        settings = compose(Train, words).settings
    identity = {"data.train": "0f"}
    return layout.pack(settings, settings.model, network(), CLASSES, epoch=3, command="train", identity=identity)


def opened(path: Path, content: dict[str, Any]) -> Checkpoint:
    write_checkpoint(path, content)
    return Checkpoint.open(path)


def published(path: Path, model: nn.Module, arch: str) -> Path:
    """As the published code writes it: other names, a numpy scalar, and no word on the data set."""
    state = {}
    for key, tensor in model.state_dict().items():
        part, _, rest = key.partition(".")
        state[f"module.{PUBLISHED[part]}{rest}"] = tensor
    torch.save(
        {"state_dict": state, "arch": arch, "epoch": 60, "global_step": 9, "best_prec1": np.float64(91.25)}, path
    )
    return path


def same_weights(model: nn.Module, other: nn.Module | dict[str, Any]) -> bool:
    """To the bit."""
    own, theirs = model.state_dict(), other.state_dict() if isinstance(other, nn.Module) else other
    return own.keys() == theirs.keys() and all(torch.equal(own[name], theirs[name]) for name in own)


class TestOurs:
    def test_it_says_all_of_itself(self, content: dict[str, Any], tmp_path: Path) -> None:
        found = opened(tmp_path / "x.ckpt", content)
        assert (found.title, found.classes, found.data) == ("resnet8_GMP", ("a", "b"), "0f")
        assert found.normalisation == ([0.5, 0.4, 0.3], [0.229, 0.224, 0.225])
        assert found.options == {"dataset": "shapes", "model": "resnet8"}
        assert (found.is_stage1, found.saw_only_its_data) == (False, True)
        assert found.settings
        assert (found.settings.option, found.settings.pool, found.settings.weights) == ("resnet8", "GMP", "none")

    def test_its_network_without_a_running_hydra(self, content: dict[str, Any], tmp_path: Path) -> None:
        found = opened(tmp_path / "x.ckpt", content)
        model = found.network(MultiLabel(), CLASSES, 24, cannot="cannot")
        assert same_weights(model, content["model"])
        assert type(model.pool).__name__ == "GMP"

    def test_a_network_that_started_from_other_images(self, content: dict[str, Any], tmp_path: Path) -> None:
        pretrained = content["network"]["values"] | {"weights": "imagenet"}
        other = content | {"network": content["network"] | {"values": pretrained}}
        assert not opened(tmp_path / "x.ckpt", other).saw_only_its_data

    def test_a_users_network_that_gave_itself_weights(self, content: dict[str, Any], tmp_path: Path) -> None:
        found = opened(tmp_path / "x.ckpt", content)
        assert found.settings
        own = replace(found.settings, own={"_target_": "mine.Net", "pretrained": True})
        assert not replace(found, settings=own).saw_only_its_data

    def test_of_a_stage_1(self, content: dict[str, Any], tmp_path: Path) -> None:
        mimicked = {"command": "mimic", "loss": "l2", "teacher": {"identity": "1", "checkpoint": "t.ckpt"}}
        assert opened(tmp_path / "x.ckpt", content | mimicked | {"stage": "1"}).is_stage1
        assert not opened(tmp_path / "x.ckpt", content | mimicked | {"stage": "2"}).is_stage1

    def test_settings_with_and_without_the_data_set(self, content: dict[str, Any], tmp_path: Path) -> None:
        found = opened(tmp_path / "x.ckpt", content)
        both = found.saved()
        assert (both["model.pool"], both["dataset.size"], both["dataset.metric"]) == ("GMP", 24, "voc2010")
        own = found.saved(without={"dataset"})
        assert {key for key in own if key.startswith("dataset.")} == {"dataset.size", "dataset.mean", "dataset.std"}
        assert own["dataset.size"] == 24

    def test_an_option_that_is_no_longer_there(self, content: dict[str, Any], tmp_path: Path) -> None:
        gone = content | {"network": content["network"] | {"option": "resnet9"}}
        with pytest.raises(InputError, match=r"^model=resnet9: no such model \(did you mean 'resnet8'\?\)"):
            opened(tmp_path / "x.ckpt", gone)


class TestPublished:
    @pytest.mark.parametrize(("pool", "projection"), [("GAP", None), ("GWP", 40)])
    def test_it_names_its_network(self, tmp_path: Path, pool: str, projection: int | None) -> None:
        model = torchvision_classifier("mobilenet_v2", 2, pool=pool, projection=projection)
        name = "mobilenet_v2" if pool == "GAP" else f"mobilenet_v2_{pool}"
        found = Checkpoint.open(published(tmp_path / "theirs.pth", model, name))
        assert (found.title, found.content, found.classes, found.data) == (name, None, None, None)
        assert (found.options, found.normalisation) == ({"model": "mobilenet_v2"}, IMAGENET)
        assert (found.is_stage1, found.saw_only_its_data) == (False, False)
        saved = found.saved()
        assert (saved["model.pool"], saved.get("model.projection")) == (pool, projection)
        assert found.saved(without={"model"}) == {}
        assert same_weights(found.network(MultiLabel(), CLASSES, 32, cannot="cannot"), model)

    def test_of_other_classes(self, tmp_path: Path) -> None:
        found = Checkpoint.open(
            published(tmp_path / "theirs.pth", torchvision_classifier("mobilenet_v2", 20), "mobilenet_v2")
        )
        with pytest.raises(InputError, match=r"theirs\.pth cannot teach: .*dropped classifier \(20 classes\)"):
            found.network(MultiLabel(), CLASSES, 32, cannot="cannot teach")


class TestBareWeights:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        torch.manual_seed(3)
        torch.save(network().state_dict(), tmp_path / "bare.pth")
        return tmp_path / "bare.pth"

    def test_they_say_nothing(self, path: Path) -> None:
        found = Checkpoint.open(path)
        assert (found.title, found.content, found.settings, found.classes) == ("bare", None, None, None)
        assert (found.options, found.saved(), found.data) == ({}, {}, None)
        assert found.normalisation == IMAGENET
        with pytest.raises(InputError, match=r"bare\.pth does not say which network it holds$"):
            found.network(MultiLabel(), CLASSES, 24, cannot="cannot")

    def test_pixels_are_as_the_data_set_has_them_whatever_is_typed(self, path: Path) -> None:
        """CIFAR's networks are published with CIFAR's own mean; a student's typed one says nothing of its teacher's."""
        cifar = dataset_of("cifar100", {"root": ".", "mean": [0.1, 0.1, 0.1]})
        found = Checkpoint.open(path)
        assert found.normalisation_on(cifar) == ([0.5071, 0.4867, 0.4408], [0.2675, 0.2565, 0.2761])
        assert found.normalisation_on(dataset_of("voc2007", {"root": "."})) == IMAGENET

    def test_with_a_network_that_the_user_names(self, path: Path, content: dict[str, Any], tmp_path: Path) -> None:
        ours = opened(tmp_path / "x.ckpt", content).settings
        model = Checkpoint.open(path).network(MultiLabel(), CLASSES, 24, cannot="cannot", built_as=ours)
        assert same_weights(model, torch.load(path, weights_only=True))


def test_a_network_is_told_by_its_design(content: dict[str, Any]) -> None:
    design = {"arch": "resnet8", "pool": "GMP"}
    assert same_network(content, "resnet8", design)
    values = content["network"]["values"]
    # Wherever its weights came from, whatever it is called, however many of its outputs are kept.
    for name in ("name", "weights", "path", "init", "per_class", "proposals"):
        assert same_network({"network": {"option": "resnet8", "values": values | {name: "x"}}}, "resnet8", design)
    assert not same_network(content, "resnet14", design)
    assert not same_network(content, "resnet8", design | {"pool": "GAP"})
    assert not same_network(content, "resnet8", design | {"projection": 64})


def test_weights_fill_the_network_completely(content: dict[str, Any]) -> None:
    model = network()
    fill(model, content["model"], Path("x.ckpt"))
    assert all(torch.equal(tensor, content["model"][name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("classifier.bias", None),
        ("classifier.extra", torch.zeros(1)),
        ("classifier.weight", torch.zeros(3, 64)),
    ],
)
def test_weights_that_do_not_fit_are_named_and_change_nothing(
    content: dict[str, Any], name: str, value: torch.Tensor | None
) -> None:
    weights = content["model"] | {name: value}
    weights = {key: tensor for key, tensor in weights.items() if tensor is not None}
    model = network()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(InputError, match=f"not those of its network; first mismatches: {name}$"):
        fill(model, weights, Path("x.ckpt"))
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


def test_a_class_mismatch_in_words(content: dict[str, Any]) -> None:
    found = Checkpoint.of(Path("x.ckpt"), content)
    text = found.class_mismatch(["a", "c", "d"], "mine")
    assert text == "trained on 2 classes, mine has 3; the first that differs: b there, c here"
    one = Checkpoint.of(Path("x.ckpt"), content | {"classes": ["a"]})
    assert "the end there, the end here" in str(one.class_mismatch(["a", "b"], "mine"))
    assert found.class_mismatch(["a", "b"], "mine") is None
