"""Checkpoints of finished runs: complete, plain, and never in charge of what code runs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lshfm.config.compose import Job, compose, conf_folder
from lshfm.errors import InputError
from lshfm.files.write import write_checkpoint
from lshfm.models.cifar import cifar_classifier
from lshfm.runs import checkpoint

CLASSES = ["a", "b"]


@pytest.fixture(scope="module")
def job() -> Job:
    with conf_folder():
        return compose("train", ["model=resnet8", "model.pool=GMP", "dataset.size=24", "lr=0.5"])


def network() -> nn.Module:
    return cifar_classifier("resnet8", len(CLASSES), pool="GMP")


@pytest.fixture
def content(job: Job) -> dict[str, Any]:
    return checkpoint.pack(job, "model", network(), CLASSES, epoch=3, metrics={"mAP": 50.0})


def write(path: Path, content: dict[str, Any]) -> Path:
    write_checkpoint(path, content)
    return path


def has_code(values: Any) -> bool:
    if isinstance(values, dict):
        return "_target_" in values or any(map(has_code, values.values()))
    return isinstance(values, list) and any(map(has_code, values))


def test_it_holds_all_that_is_needed(content: dict[str, Any], tmp_path: Path) -> None:
    back = checkpoint.unpack(write(tmp_path / "x.ckpt", content))
    assert (back["classes"], back["size"], back["epoch"], back["metrics"]) == (CLASSES, 24, 3, {"mAP": 50.0})
    assert (back["mean"], back["std"]) == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert (back["network"]["option"], back["network"]["values"]["pool"]) == ("resnet8", "GMP")
    assert (back["dataset"]["option"], back["config"]["lr"]) == ("shapes", 0.5)
    assert back["model"].keys() == network().state_dict().keys()


def test_it_names_no_code(content: dict[str, Any], job: Job) -> None:
    assert has_code(job.values)
    assert not has_code({name: value for name, value in content.items() if name != "model"})


def test_weights_are_copies(job: Job) -> None:
    model = network()
    packed = checkpoint.pack(job, "model", model, CLASSES)
    nn.init.zeros_(model.classifier.weight)
    assert packed["model"]["classifier.weight"].abs().sum() > 0


def test_settings_with_and_without_the_data_set(content: dict[str, Any]) -> None:
    both = checkpoint.settings(content)
    assert (both["model.pool"], both["dataset.size"], both["dataset.metric"]) == ("GMP", 24, "voc2010")
    own = checkpoint.settings(content, without={"dataset"})
    assert {key for key in own if key.startswith("dataset.")} == {"dataset.size", "dataset.mean", "dataset.std"}
    assert own["dataset.size"] == 24


@pytest.mark.parametrize("part", ["network", "dataset"])
def test_a_target_smuggled_in_is_not_handed_on(content: dict[str, Any], tmp_path: Path, part: str) -> None:
    content[part]["values"]["_target_"] = "os.system"
    content["dataset"]["values"]["preset"]["_target_"] = "os.system"
    back = checkpoint.unpack(write(tmp_path / "x.ckpt", content))
    assert [key for key in checkpoint.settings(back) if "_target_" in key] == []


@pytest.mark.parametrize("option", ["../../../evil", "/evil", "a/../b", "a,b", "a=b", "[a]", "", ".", None, 3])
@pytest.mark.parametrize("part", ["network", "dataset"])
def test_an_option_that_is_no_plain_name_is_refused(
    content: dict[str, Any], tmp_path: Path, part: str, option: Any
) -> None:
    content[part]["option"] = option
    with pytest.raises(InputError, match=f"is damaged: {part} missing or of the wrong kind"):
        checkpoint.unpack(write(tmp_path / "x.ckpt", content))


@pytest.mark.parametrize("name", ["model", "classes", "network", "dataset", "config", "size", "mean", "std"])
def test_what_is_missing_is_named(content: dict[str, Any], tmp_path: Path, name: str) -> None:
    del content[name]
    with pytest.raises(InputError, match=f"is damaged: {name} missing"):
        checkpoint.unpack(write(tmp_path / "x.ckpt", content))


@pytest.mark.parametrize("version", [2, "1", None])
def test_a_later_version_is_refused(content: dict[str, Any], tmp_path: Path, version: Any) -> None:
    with pytest.raises(InputError, match="was written by a newer lshfm"):
        checkpoint.unpack(write(tmp_path / "x.ckpt", content | {"version": version}))


def test_a_file_of_someone_else(tmp_path: Path) -> None:
    path = write(tmp_path / "x.pth", {"state_dict": network().state_dict()})
    assert not checkpoint.is_ours(path)
    with pytest.raises(InputError, match=r"no checkpoint of lshfm.*add dataset=\.\.\. and model=\.\.\."):
        checkpoint.unpack(path)


def test_ours_is_ours(content: dict[str, Any], tmp_path: Path) -> None:
    assert checkpoint.is_ours(write(tmp_path / "x.ckpt", content))


def test_weights_fill_the_network_completely(content: dict[str, Any]) -> None:
    model = network()
    checkpoint.check_weights(Path("x.ckpt"), model, content["model"])
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
        checkpoint.check_weights(Path("x.ckpt"), model, weights)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


def test_a_class_mismatch_in_words() -> None:
    text = checkpoint.class_mismatch(["a", "b"], ["a", "c", "d"], "mine")
    assert text == "trained on 2 classes, mine has 3; the first that differs: b there, c here"
    assert "the end there, the end here" in checkpoint.class_mismatch(["a"], ["a", "b"], "mine")
