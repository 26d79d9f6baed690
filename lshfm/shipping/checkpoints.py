"""What a checkpoint says about itself, and the network in it, ready for use."""

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from lshfm.config.build import build
from lshfm.config.catalogue import network_of, task_node
from lshfm.config.groups import Network
from lshfm.errors import InputError
from lshfm.files.read import digest, read_checkpoint
from lshfm.metrics.decisions import Decisions
from lshfm.runs.checkpoint import Checkpoint
from lshfm.runs.thresholds import Thresholds
from lshfm.shipping.description import KEY, Description
from lshfm.tasks.task import Task

PUBLISHED_SIZE = 448  # pixels that the published networks are trained at


def task_of(checkpoint: Checkpoint, folders: Sequence[Path] = ()) -> Task:
    """The task that a checkpoint was trained for; multi-label for files that do not say."""
    return task_called(task_name(checkpoint), folders)


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
        raise _unnamed(checkpoint.path)
    task = task or task_of(checkpoint, checkpoint.folders)
    return checkpoint.network(
        task, classes, size or size_of(checkpoint), built_as=built_as, cannot="cannot be used"
    ).eval()


def described_network(checkpoint: Checkpoint, told: Description) -> nn.Module:
    """The network in a checkpoint of the published layout that lshfm wrote, which may not name it itself."""
    folders, built_as = checkpoint.folders, None
    if checkpoint.settings is None:
        built_as = network_of(told.network["option"], told.network["values"], folders)
    return checkpoint_network(
        checkpoint, told.classes, told.size, built_as=built_as, task=task_called(told.task, folders)
    )  # fmt: skip


def decisions_of(checkpoint: Checkpoint, model: nn.Module, folders: Sequence[Path] = ()) -> Decisions:
    """How outputs become labels: as the task has it, with the thresholds that lie beside the checkpoint."""
    activation = task_of(checkpoint, folders).activation
    if activation is None:
        raise InputError(f"{checkpoint.path}: outputs of the task {task_name(checkpoint)} are no classes")
    stored = Thresholds.of(checkpoint.path, lambda: digest(model.state_dict()))
    return stored.decisions(activation) if stored else Decisions(activation)


def told_by(checkpoint: Checkpoint) -> Description | None:
    """What lshfm wrote into a checkpoint in the published layout; None for others."""
    if checkpoint.content is not None:
        return None
    entry = read_checkpoint(checkpoint.path, whole=False).get(KEY)
    return Description.read({KEY: entry}, checkpoint.path) if isinstance(entry, str) else None


def task_called(option: str, folders: Sequence[Path]) -> Task:
    """The task that an option of the group means."""
    task: Task = build(task_node(option, folders))
    return task


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
        raise _unnamed(path)
    return [f"class {number}" for number in range(width)]


def _unnamed(path: Path) -> InputError:
    """The error for a file of weights alone: torchvision's, for instance."""
    return InputError(
        f"{path} does not say which network it holds, nor its classes. Start from it on images of your own, and use "
        f"what that trains: lshfm train dataset=manifest dataset.root=DIR model=NETWORK model.weights={path}. "
        "In Python, network=CLASS and classes=[...] say it"
    )
