"""eval of files that others wrote: the published code's, and bare weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lshfm.datasets.shapes import CLASSES
from lshfm.models.backbones import torchvision_classifier
from tests.cli.conftest import here
from tests.runs.test_checkpoint import published

DATA = (
    "dataset=shapes", "dataset.num_train=8", "dataset.num_eval=6", "dataset.size=32", "dataset.cache=off", "workers=0",
    "gpus=[]",
)  # fmt: skip


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(5)
    return torchvision_classifier("mobilenet_v2", len(CLASSES), pool="GWP", projection=40)


@pytest.fixture
def theirs(network: nn.Module, tmp_path: Path) -> Path:
    return published(tmp_path / "theirs.pth", network, "mobilenet_v2_GWP")


def logits(folder: Path, name: str) -> np.ndarray:
    with np.load(folder / f"outputs/eval/{name}/predictions.npz") as file:
        found: np.ndarray = file["logits"]
    return found


@pytest.mark.slow
def test_the_network_is_the_files(network: nn.Module, theirs: Path) -> None:
    folder = theirs.parent
    here(folder, "eval", "checkpoint=theirs.pth", *DATA)
    results = json.loads((folder / "outputs/eval/theirs_dataset-shapes/results.json").read_text())
    assert (results["checkpoint"], results["report"]["images"]) == ("theirs.pth", 6)
    torch.save(network.state_dict(), folder / "bare.pth")
    network_is = ("model=mobilenet_v2", "model.pool=GWP", "++model.projection=40")
    here(folder, "eval", "checkpoint=bare.pth", *DATA, *network_is)
    theirs_logits = logits(folder, "theirs_dataset-shapes")
    assert theirs_logits.shape == (6, len(CLASSES))
    assert np.array_equal(theirs_logits, logits(folder, "bare_dataset-shapes"))


def test_another_network_than_the_files_is_refused(theirs: Path) -> None:
    said = here(theirs.parent, "eval", "checkpoint=theirs.pth", *DATA, "model=mobilenet_v2", code=2)
    assert (
        "theirs.pth: holds mobilenet_v2 with pooling GWP, the network is mobilenet_v2 with GAP: "
        "choose model=mobilenet_v2 model.pool=GWP"
    ) in said
    said = here(theirs.parent, "eval", "checkpoint=theirs.pth", *DATA, "model=resnet18", code=2)
    assert "holds mobilenet_v2 with pooling GWP, the network is resnet18 with GAP: choose model=mobilenet_v2" in said


def test_a_data_set_is_asked_for(theirs: Path) -> None:
    said = here(theirs.parent, "eval", "checkpoint=theirs.pth", code=2)
    assert "theirs.pth holds mobilenet_v2_GWP and names no data set: add dataset=... to evaluate it" in said


def test_bare_weights_name_nothing(network: nn.Module, tmp_path: Path) -> None:
    torch.save(network.state_dict(), tmp_path / "bare.pth")
    said = here(tmp_path, "eval", "checkpoint=bare.pth", "dataset=shapes", code=2)
    assert "names neither data set nor network: add dataset=... and model=... to evaluate it" in said
