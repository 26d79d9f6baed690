"""Weights as training tools wrap them: the network is the same, and what was taken is said."""

import argparse
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from lshfm.errors import InputError
from lshfm.files.read import read_checkpoint
from lshfm.models.cifar import cifar_classifier
from lshfm.models.weights import Loaded, load_weights
from lshfm.models.wrappings import MOST_PREFIXES, Found, bare

State = dict[str, Tensor]


def under(prefix: str, state: State) -> State:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return cifar_classifier("resnet8", 3)


def averaged(state: State) -> State:
    """As torch's AveragedModel gives it."""
    other = network(0)
    other.load_state_dict(state)
    return AveragedModel(other).state_dict()


CONFIGURED = {"args": argparse.Namespace(model="resnet8", output=Path("/there")), "epoch": 3}
# name -> (the file of weights and, where it holds two, of others that are not to be taken; what is said of it)
WRAPPED: dict[str, tuple[Callable[[State, State], Any], str]] = {
    "torch.compile": (lambda own, _: under("_orig_mod.", own), "names without _orig_mod."),
    "a compiled part": (
        lambda own, _: {n.replace("backbone.", "backbone._orig_mod."): t for n, t in own.items()},
        "names without _orig_mod.",
    ),
    "DDP": (lambda own, _: under("module.", own), "names without module."),
    "DDP of a compiled one": (
        lambda own, _: {"model_state_dict": under("module._orig_mod.", own)},
        "its model_state_dict; names without _orig_mod., module.",
    ),
    "Lightning": (
        lambda own, _: {
            "state_dict": under("model.", own) | {"loss.weight": torch.ones(3)},
            "global_step": 9, "pytorch-lightning_version": "2.4.0",
        },
        "its state_dict; names without model.; left out loss",
    ),
    "Lightning with a moving average of its own": (
        lambda own, other: {"state_dict": under("model.", other) | under("ema_model.", averaged(own))},
        "its state_dict; names without ema_model., module.; left out model",
    ),
    "torchvision's references": (lambda own, _: {"model": own, **CONFIGURED}, "its model"),
    "the same with a moving average": (
        lambda own, other: {"model": other, "model_ema": averaged(own), **CONFIGURED},
        "its model_ema, a moving average, not model; names without module.",
    ),
    "timm": (lambda own, _: {"state_dict": own, "arch": "resnet8", **CONFIGURED}, "its state_dict"),
    "timm with a moving average": (
        lambda own, other: {"state_dict": other, "state_dict_ema": own, "arch": "resnet8", "version": 2, **CONFIGURED},
        "its state_dict_ema, a moving average, not state_dict",
    ),
    "timm where there is none": (lambda own, _: {"state_dict": own, "state_dict_ema": None}, "its state_dict"),
}  # fmt: skip


@pytest.mark.parametrize("tool", WRAPPED)
def test_the_network_is_found_and_said(tmp_path: Path, tool: str) -> None:
    source, model = network(1), network(2)
    wrap, said = WRAPPED[tool]
    torch.save(wrap(source.state_dict(), network(3).state_dict()), tmp_path / "w.pth")
    loaded = load_weights(model, tmp_path / "w.pth")
    assert loaded.describe() == f"taken {len(source.state_dict())} tensors from w.pth (plain; {said})"
    own = model.state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in source.state_dict().items())


def run_state(weights: State, average: State | None, **more: Any) -> dict[str, Any]:
    state = {"model": weights, "ema": average, "epoch": 3, "step": 0} | more
    return {"format": "lshfm-run", "version": 2, "config": {"checkpoint_dir": "kept"}, "state": state}


def test_paths_as_python_3_13_writes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = network(1).state_dict()
    monkeypatch.setitem(sys.modules, "pathlib._local", sys.modules[type(tmp_path).__module__])
    monkeypatch.setattr(type(tmp_path), "__module__", "pathlib._local")
    torch.save({"model": own, **CONFIGURED}, tmp_path / "w.pth")
    assert b"pathlib._local" in zipfile.ZipFile(tmp_path / "w.pth").read("w/data.pkl")
    assert read_checkpoint(tmp_path / "w.pth", whole=False).keys() >= {"model"}


def loaded_run(folder: Path, content: dict[str, Any]) -> tuple[Loaded, nn.Module]:
    model, run = network(2), folder / "a"
    run.mkdir(exist_ok=True)
    torch.save(content, run / "last.ckpt")
    return load_weights(model, run / "last.ckpt"), model


@pytest.mark.parametrize("has_average", [False, True])
def test_the_state_of_a_run_gives_its_network(tmp_path: Path, has_average: bool) -> None:
    """That which the run evaluates: its moving average, where it has one."""
    own, other = network(1).state_dict(), network(3).state_dict()
    content = run_state(other, averaged(own)) if has_average else run_state(own, None)
    loaded, model = loaded_run(tmp_path, content)
    said = "the state of a run after epoch 3; kept/a.ckpt will hold that of the finished run"
    assert loaded.describe().startswith(f"taken {len(own)} tensors from last.ckpt ({said}")
    assert loaded.describe().endswith("; its moving average)") is has_average
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in own.items())


def test_the_files_that_hold_its_networks_alone_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (Path("a/best.ckpt"), Path("kept/a.ckpt")):
        path.parent.mkdir()
        path.touch()
    loaded, _ = loaded_run(Path(), run_state(network(1).state_dict(), None, step=12))
    assert loaded.kind == (
        "the state of a run after epoch 3 and 12 steps; a/best.ckpt holds the network of its best epoch "
        "and kept/a.ckpt holds that of the finished run"
    )


@pytest.mark.parametrize("state", [None, {}, {"model": None}, {"model": {"a": 1}}, {"ema": [1]}])
def test_a_damaged_state_is_one_message(tmp_path: Path, state: Any) -> None:
    with pytest.raises(InputError, match=r"last\.ckpt: (is damaged|holds no state dict)"):
        loaded_run(tmp_path, run_state({}, None) | {"state": state})


@pytest.mark.parametrize("directory", [7, "\0", "x" * 9999])
def test_what_a_file_says_of_its_folder_need_not_be_one(tmp_path: Path, directory: Any) -> None:
    content = run_state(network(1).state_dict(), None) | {"config": {"checkpoint_dir": directory}}
    assert "will hold that of the finished run" in loaded_run(tmp_path, content)[0].kind


class Named(nn.Module):
    """A user's network whose names look like a wrapper's."""

    def __init__(self) -> None:
        super().__init__()
        self.model, self.module, self.classifier = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 3)


@pytest.mark.parametrize("prefix", ["", "module.", "net."])
def test_a_network_keeps_names_that_are_its_own(tmp_path: Path, prefix: str) -> None:
    source, model = Named(), Named()
    torch.save(under(prefix, source.state_dict()), tmp_path / "w.pth")
    assert load_weights(model, tmp_path / "w.pth").taken == 6
    assert torch.equal(model.model.weight, source.model.weight)


def test_prefixes_without_end_are_not_followed() -> None:
    found = bare(Found({"model." * 100_000: torch.zeros(1)}))
    assert set(found.state) == {"model." * (100_000 - MOST_PREFIXES)}


def test_what_is_left_out_is_shown_escaped_and_in_short() -> None:
    names = [f"model.{1}", "\x1b[2Jx.1", *(f"p{number}.1" for number in range(5))]
    (_, left) = bare(Found(dict.fromkeys(names, torch.zeros(1)))).words
    assert left == r"left out \x1b[2Jx, p0, p1, p2 and 2 more"
