"""What a finished checkpoint holds: complete, plain, and never in charge of what code runs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lshfm.config.compose import Job, compose, conf_folder
from lshfm.config.keys import plain
from lshfm.config.schema import Train
from lshfm.errors import InputError
from lshfm.files.write import write_checkpoint
from lshfm.models.cifar import cifar_classifier
from lshfm.runs import layout
from lshfm.runs.checkpoint import Checkpoint

CLASSES = ["a", "b"]


@pytest.fixture(scope="module")
def job() -> Job[Train]:
    with conf_folder():
        return compose(Train, ["model=resnet8", "model.pool=GMP", "dataset.size=24", "lr=0.5"])


def network() -> nn.Module:
    return cifar_classifier("resnet8", len(CLASSES), pool="GMP")


@pytest.fixture
def content(job: Job[Train]) -> dict[str, Any]:
    return layout.pack(job.settings, job.settings.model, network(), CLASSES, epoch=3, metrics={"mAP": 50.0})


def write(path: Path, content: dict[str, Any]) -> Path:
    write_checkpoint(path, content)
    return path


def has_code(values: Any) -> bool:
    if isinstance(values, dict):
        return "_target_" in values or any(map(has_code, values.values()))
    return isinstance(values, list) and any(map(has_code, values))


def test_it_holds_all_that_is_needed(content: dict[str, Any], tmp_path: Path) -> None:
    back = layout.unpack(write(tmp_path / "x.ckpt", content))
    assert (back["classes"], back["size"], back["epoch"], back["metrics"]) == (CLASSES, 24, 3, {"mAP": 50.0})
    assert (back["mean"], back["std"]) == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert (back["network"]["option"], back["network"]["values"]["pool"]) == ("resnet8", "GMP")
    assert (back["dataset"]["option"], back["config"]["lr"]) == ("shapes", 0.5)
    assert back["model"].keys() == network().state_dict().keys()


def test_it_names_no_code(content: dict[str, Any], job: Job[Train]) -> None:
    assert has_code(plain(job.settings))
    assert not has_code({name: value for name, value in content.items() if name != "model"})


def test_weights_are_copies(job: Job[Train]) -> None:
    model = network()
    packed = layout.pack(job.settings, job.settings.model, model, CLASSES)
    nn.init.zeros_(model.classifier.weight)
    assert packed["model"]["classifier.weight"].abs().sum() > 0


@pytest.mark.parametrize("part", ["network", "dataset"])
def test_a_target_smuggled_in_is_not_handed_on(content: dict[str, Any], tmp_path: Path, part: str) -> None:
    content[part]["values"]["_target_"] = "os.system"
    content["dataset"]["values"]["preset"]["_target_"] = "os.system"
    found = Checkpoint.open(write(tmp_path / "x.ckpt", content))
    assert [key for key in found.saved() if "_target_" in key] == []
    assert found.settings
    assert found.settings.target == "lshfm.models.cifar.cifar_classifier"


@pytest.mark.parametrize("option", ["../../../evil", "/evil", "a/../b", "a,b", "a=b", "[a]", "", ".", None, 3])
@pytest.mark.parametrize("part", ["network", "dataset"])
def test_an_option_that_is_no_plain_name_is_refused(
    content: dict[str, Any], tmp_path: Path, part: str, option: Any
) -> None:
    content[part]["option"] = option
    with pytest.raises(InputError, match=f"is damaged: {part} missing or of the wrong kind"):
        layout.unpack(write(tmp_path / "x.ckpt", content))


@pytest.mark.parametrize("name", ["model", "classes", "network", "dataset", "config", "size", "mean", "std"])
def test_what_is_missing_is_named(content: dict[str, Any], tmp_path: Path, name: str) -> None:
    del content[name]
    with pytest.raises(InputError, match=f"is damaged: {name} missing"):
        layout.unpack(write(tmp_path / "x.ckpt", content))


@pytest.mark.parametrize("version", [2, "1", None])
def test_a_later_version_is_refused(content: dict[str, Any], tmp_path: Path, version: Any) -> None:
    with pytest.raises(InputError, match="was written by a newer lshfm"):
        layout.unpack(write(tmp_path / "x.ckpt", content | {"version": version}))


def test_a_file_of_someone_else(tmp_path: Path) -> None:
    path = write(tmp_path / "x.pth", {"state_dict": network().state_dict()})
    assert layout.content_of(path) is None
    with pytest.raises(InputError, match=r"no checkpoint of lshfm.*add dataset=\.\.\. and model=\.\.\."):
        layout.unpack(path)


def test_ours_is_ours(content: dict[str, Any], tmp_path: Path) -> None:
    path = write(tmp_path / "x.ckpt", content)
    found = layout.content_of(path)
    assert found
    assert found["classes"] == content["classes"]
    assert layout.about_run(path) is None


def of_run(content: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The state of the run that `content` would be the finished checkpoint of."""
    state = {"model": content["model"], "ema": None, "epoch": 1, "step": 0, "constants": {}}
    rest = {name: value for name, value in content.items() if name != "model"}
    return rest | {"format": "lshfm-run", "version": 2, "state": state, "journal": {}} | changes


def test_the_state_of_a_run_is_read_as_its_checkpoint(content: dict[str, Any], tmp_path: Path) -> None:
    path = write(tmp_path / "last.ckpt", of_run(content))
    found = layout.content_of(path)
    assert found
    assert found.keys() == content.keys()
    assert all(torch.equal(found["model"][name], tensor) for name, tensor in content["model"].items())
    assert str(layout.about_run(path)).startswith("the state of a run after epoch 1")
    with pytest.raises(InputError, match="is no checkpoint of lshfm"):  # where finished ones are looked for
        layout.unpack(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 3}, "was written by a newer lshfm"),
        ({"state": [1]}, "is damaged: state missing or of the wrong kind"),
        ({"state": {"model": {}}}, "holds no state dict"),
        ({"dataset": {"option": "../evil", "values": {}}}, "is damaged: dataset missing or of the wrong kind"),
        ({"identity": {"a": torch.zeros(1)}}, "is damaged: identity missing or of the wrong kind"),
    ],
)
def test_a_damaged_state_of_a_run(
    content: dict[str, Any], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        layout.content_of(write(tmp_path / "last.ckpt", of_run(content, **changes)))
