"""Any file that holds a network, opened for use: checkpoints, safetensors, ONNX. Nothing in one ever runs."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lshfm.config.catalogue import network_of
from lshfm.config.checkpoint_names import checkpoint_file
from lshfm.datasets.checks import contents
from lshfm.errors import InputError
from lshfm.models.weights import load_weights
from lshfm.ranks.device import choose
from lshfm.runs.checkpoint import Checkpoint, fill
from lshfm.runs.layout import content_of
from lshfm.shipping.checkpoints import (
    checkpoint_network,
    decisions_of,
    described_network,
    fit_of,
    numbered,
    size_of,
    task_called,
    task_of,
    told_by,
)
from lshfm.shipping.description import Description
from lshfm.shipping.detector import Detector, TorchDetector
from lshfm.shipping.names import own_names
from lshfm.shipping.onnx import open_onnx
from lshfm.shipping.optional import library
from lshfm.shipping.pictures import OwnSize
from lshfm.shipping.predictor import Predictor, TorchPredictor, Transform

Build = Callable[..., nn.Module]


def load(
    file: str | Path, *, device: str | torch.device | None = None, classes: Sequence[str] | None = None,
    size: int | None = None, network: Build | None = None, checkpoint_dir: str | Path = "checkpoints",
    config_dir: str | Path | None = None, fast: bool = False,
) -> Predictor | Detector:  # fmt: skip
    """A trained network with its classes and its transform, in eval mode.

    file: a checkpoint of lshfm (a path, or a name in `checkpoint_dir`) or of the published code, a .safetensors or an
    .onnx file that lshfm exported. device: without it the first GPU if there is one. classes, size: of files that do
    not name them; the published networks take 448 pixels, and pixels of such a file are normalised as ImageNet's.
    network: for one of your own class, that class: it is called with num_classes and the settings that the checkpoint
    holds; or config_dir, the folder with its YAML file. fast: on a GPU bf16, which changes the last digits.

    Raises InputError for a file that is missing, damaged, or does not say which network it holds.
    """
    path = checkpoint_file(str(file), Path(checkpoint_dir).expanduser())
    folders = () if config_dir is None else (Path(config_dir).expanduser().absolute(),)
    return open_predictor(
        path, _device(device), folders, classes=classes, size=size, network=network, fast=fast
    )  # fmt: skip


def open_predictor(
    path: Path, where: torch.device, folders: Sequence[Path] = (), *, classes: Sequence[str] | None = None,
    size: int | None = None, network: Build | None = None, fast: bool = False,
) -> Predictor | Detector:  # fmt: skip
    """The predictor in a file, as `load`. folders: with YAML files of the user's own networks."""
    if path.suffix == ".onnx":
        return open_onnx(path, where)
    if path.suffix in {".pt2", ".pth2"}:
        raise InputError(f"{path}: reading a pt2 file can run code in it, so it is left alone; load its checkpoint")
    if path.suffix == ".safetensors":
        described, model = open_safetensors(path, network, folders)
        if described.gives_boxes:
            return TorchDetector.of(described, model, where, fast=fast)
        transform = Transform(described.size, tuple(described.mean), tuple(described.std), described.fit)
        return TorchPredictor(model, described.classes, transform, described.decisions, device=where, fast=fast)
    if network is not None:
        checkpoint, model, names = _of_own_class(path, network, classes)
    else:
        checkpoint = Checkpoint.open(path, folders)
        if told := told_by(checkpoint):
            model = described_network(checkpoint, told)
            transform = Transform(size or told.size, tuple(told.mean), tuple(told.std), told.fit)
            return TorchPredictor(model, classes or told.classes, transform, told.decisions, device=where, fast=fast)
        names = tuple(classes or checkpoint.classes or numbered(path))
        model = checkpoint_network(checkpoint, names, size)
    mean, std = map(tuple, checkpoint.normalisation)
    if task_of(checkpoint, folders).gives_boxes:
        return TorchDetector(
            model, names, OwnSize(size or size_of(checkpoint), mean, std), device=where, fast=fast,
            category_ids=(checkpoint.content or {}).get("category_ids", ()),
            saw_only_its_data=checkpoint.saw_only_its_data,
        )  # fmt: skip
    transform = Transform(size or size_of(checkpoint), mean, std, fit_of(checkpoint))
    decisions = decisions_of(checkpoint, model, folders)
    return TorchPredictor(model, names, transform, decisions, device=where, fast=fast)


def open_safetensors(
    path: Path, network: Build | None = None, folders: Sequence[Path] = ()
) -> tuple[Description, nn.Module]:
    """The network in a file that lshfm exported. Raises InputError."""
    if not path.is_file():
        raise InputError(f"{path}: no such file. {contents(path.parent)}")
    safetensors = library("safetensors")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except Exception as error:
        raise InputError(f"{path}: not a safetensors file, or a truncated one: copy or export it again") from error
    described = Description.read(metadata, path)
    values, option = described.network["values"], described.network["option"]
    if network is not None:
        model = _called(network, len(described.classes), values)
    else:
        settings = network_of(option, values, folders)
        model, _ = task_called(described.task, folders).network(settings, described.classes, described.size)
    if described.names != "lshfm":
        state = own_names(described.names, model, state)
    fill(
        model, {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}, path
    )
    return described, model.eval()


def _of_own_class(
    path: Path, network: Build, classes: Sequence[str] | None
) -> tuple[Checkpoint, nn.Module, tuple[str, ...]]:
    """A checkpoint whose network's class the caller has, or bare weights of one."""
    if content := content_of(path):
        names = tuple(content["classes"])
        model = _called(network, len(names), content["network"]["values"])
        fill(model, content["model"], path)
        return Checkpoint(path, content, None), model.eval(), names
    if not classes:
        raise InputError(f"{path} names no classes: add classes=[...]")
    model = _called(network, len(classes), {})
    loaded = load_weights(model, path, classes)
    if loaded.missing:
        raise InputError(f"{path} cannot be used: {loaded.describe()}")
    return Checkpoint(path, None, None), model.eval(), tuple(classes)


def _called(network: Build, num_classes: int, values: Mapping[str, Any]) -> nn.Module:
    """The caller's class with the settings that a file holds, but for those that say where weights are."""
    aside = {"name", "weights", "path", "init"}
    keywords = {name: value for name, value in values.items() if name not in aside and value is not None}
    try:
        return network(num_classes=num_classes, **keywords)
    except TypeError as error:
        raise InputError(f"{network} does not take the settings of the file: {error}") from error


def _device(device: str | torch.device | None) -> torch.device:
    if device is None:
        return choose(None)[0]
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise InputError(f"device={device}: {error}") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device={device}: this machine has no CUDA device")
    return chosen
