"""Any file that holds a network, opened for use: checkpoints, safetensors, ONNX. Nothing in one ever runs."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lshfm.config.build import build
from lshfm.config.catalogue import network_of, task_node
from lshfm.config.early import checkpoint_file
from lshfm.config.groups import Network
from lshfm.datasets.checks import contents
from lshfm.errors import InputError
from lshfm.files.read import digest, read_checkpoint
from lshfm.metrics.decisions import Decisions
from lshfm.models.weights import load_weights
from lshfm.ranks.device import choose
from lshfm.runs.checkpoint import Checkpoint, fill
from lshfm.runs.layout import content_of
from lshfm.runs.thresholds import Thresholds
from lshfm.shipping.description import KEY, Description
from lshfm.shipping.names import own_names
from lshfm.shipping.onnx import OnnxPredictor
from lshfm.shipping.optional import library
from lshfm.shipping.predictor import Predictor, TorchPredictor, Transform
from lshfm.tasks.task import Task

PUBLISHED_SIZE = 448  # pixels that the published networks are trained at
Build = Callable[..., nn.Module]


def load(
    file: str | Path, *, device: str | torch.device | None = None, classes: Sequence[str] | None = None,
    size: int | None = None, network: Build | None = None, checkpoint_dir: str | Path = "checkpoints",
    config_dir: str | Path | None = None, fast: bool = False,
) -> Predictor:  # fmt: skip
    """A trained network with its classes and its transform, in eval mode.

    file: a checkpoint of lshfm (a path, or a name in `checkpoint_dir`) or of the published code, a .safetensors or an
    .onnx file that lshfm exported. device: without it the first GPU if there is one. classes, size: of files that do
    not name them; the published networks take 448 pixels. network: for one of your own class, that class: it is called
    with num_classes and the settings that the checkpoint holds; or config_dir, the folder with its YAML file. fast: on
    a GPU bf16, which changes the last digits.

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
) -> Predictor:  # fmt: skip
    """The predictor in a file, as `load`. folders: with YAML files of the user's own networks."""
    if path.suffix == ".onnx":
        return OnnxPredictor.open(path, where)
    if path.suffix in {".pt2", ".pth2"}:
        raise InputError(f"{path}: reading a pt2 file can run code in it, so it is left alone; load its checkpoint")
    if path.suffix == ".safetensors":
        described, model = open_safetensors(path, network, folders)
        transform = Transform(described.size, tuple(described.mean), tuple(described.std), described.fit)
        return TorchPredictor(model, described.classes, transform, described.decisions, device=where, fast=fast)
    if network is not None:
        checkpoint, model, names = _of_own_class(path, network, classes)
    else:
        checkpoint = Checkpoint.open(path, folders)
        if told := _told(checkpoint):
            model = checkpoint_network(checkpoint, told.classes, told.size)
            transform = Transform(size or told.size, tuple(told.mean), tuple(told.std), told.fit)
            return TorchPredictor(model, classes or told.classes, transform, told.decisions, device=where, fast=fast)
        names = tuple(classes or checkpoint.classes or numbered(path))
        model = checkpoint_network(checkpoint, names, size)
    mean, std = map(tuple, checkpoint.normalisation)
    transform = Transform(size or size_of(checkpoint), mean, std, fit_of(checkpoint))
    decisions = decisions_of(checkpoint, model, folders)
    return TorchPredictor(model, names, transform, decisions, device=where, fast=fast)


def task_of(checkpoint: Checkpoint, folders: Sequence[Path] = ()) -> Task:
    """The task that a checkpoint was trained for; multi-label for files that do not say."""
    return _task(task_name(checkpoint), folders)


def task_name(checkpoint: Checkpoint) -> str:
    """The option of the group task."""
    values = checkpoint.content["dataset"]["values"] if checkpoint.content else {}
    return str(values.get("task", "multilabel"))


def size_of(checkpoint: Checkpoint) -> int:
    """The size of the images that it was trained on."""
    return int(checkpoint.content["size"]) if checkpoint.content else PUBLISHED_SIZE


def fit_of(checkpoint: Checkpoint) -> str:
    """How the pictures that it was trained on became squares."""
    values = checkpoint.content["dataset"]["values"] if checkpoint.content else {}
    return "crop" if values.get("fit") == "crop" else "stretch"


def checkpoint_network(
    checkpoint: Checkpoint, classes: Sequence[str], size: int | None = None, *, built_as: Network | None = None,
    task: Task | None = None,
) -> nn.Module:  # fmt: skip
    """A checkpoint's network with its weights, in eval mode. Raises InputError for a stage 1.

    built_as, task: in place of those that the file names.
    """
    if checkpoint.is_stage1:
        raise InputError(f"{checkpoint.path} is of a stage 1: its classifier is untrained; take a stage 2")
    if built_as is None and checkpoint.settings is None:
        raise InputError(
            f"{checkpoint.path} does not say which network it holds: network=CLASS and classes=[...] in Python say it"
        )
    task = task or task_of(checkpoint, checkpoint.folders)
    return checkpoint.network(
        task, classes, size or size_of(checkpoint), built_as=built_as, cannot="cannot be used"
    ).eval()


def decisions_of(checkpoint: Checkpoint, model: nn.Module, folders: Sequence[Path] = ()) -> Decisions:
    """How outputs become labels: as the task has it, with the thresholds that lie beside the checkpoint."""
    activation = task_of(checkpoint, folders).activation
    if activation is None:
        raise InputError(f"{checkpoint.path}: outputs of the task {task_name(checkpoint)} are no classes")
    stored = Thresholds.of(checkpoint.path, lambda: digest(model.state_dict()))
    return stored.decisions(activation) if stored else Decisions(activation)


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
        model, _ = _task(described.task, folders).network(settings, described.classes, described.size)
    if described.names != "lshfm":
        state = own_names(described.names, model, state)
    fill(
        model, {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}, path
    )
    return described, model.eval()


def _told(checkpoint: Checkpoint) -> Description | None:
    """What lshfm wrote into a checkpoint in the published layout; None for others."""
    if checkpoint.content is not None:
        return None
    entry = read_checkpoint(checkpoint.path, whole=False).get(KEY)
    return Description.read({KEY: entry}, checkpoint.path) if isinstance(entry, str) else None


def _task(option: str, folders: Sequence[Path]) -> Task:
    task: Task = build(task_node(option, folders))
    return task


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


def numbered(path: Path) -> list[str]:
    """Names for the classes of a file that tells only how many there are, by the last layer's width."""
    state = read_checkpoint(path, whole=False).get("state_dict", {})
    heads = {
        f"{prefix}{name}.weight"
        for prefix in ("", "module.")
        for name in ("fc", "linear", "classifier", "classifier.1")
    }
    width = next((len(tensor) for name, tensor in state.items() if name in heads), None)
    if width is None:
        raise InputError(f"{path} does not say which network it holds: network=CLASS and classes=[...] say it")
    return [f"class {number}" for number in range(width)]


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
