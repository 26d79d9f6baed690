"""What can be told of settings before anything heavy is imported: devices, and files that are not there."""

import os
import re
import shlex
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lshfm.checks import class_weights, device_numbers, fraction, require_one_a_class, weights_file
from lshfm.config.build import build
from lshfm.config.catalogue import named_twice, options
from lshfm.config.checkpoint_names import checkpoint_file, missing_checkpoint
from lshfm.config.compose import Job
from lshfm.config.groups import Dataset, LabelLoss, Network, Teacher, without_pooling
from lshfm.config.schema import Eval, Mimic, Train, Training
from lshfm.config.shared import Schedule
from lshfm.config.slips import is_folder
from lshfm.errors import InputError, at, nearest, printable

NO_FILES = (None, "none", "imagenet", "auto")  # starting weights that are no path
BCE = "lshfm.losses.classification.BCE"  # importing it would import torch


def require_together(settings: Training) -> None:
    """InputError for keys of training that do not go together, whatever the data."""
    epochs, held = settings.epochs, settings.freeze_epochs
    if held >= epochs:
        raise InputError(f"freeze_epochs={held} must be less than epochs={epochs}: else the backbone never learns")
    if held and "backbone" in settings.freeze:
        raise InputError(f"freeze=[backbone] is for all epochs, freeze_epochs={held} for the first ones: not both")
    if settings.early_stop and not settings.dataset.holdout:
        raise InputError(
            f"early_stop={settings.early_stop} would end the run by its score on the test split, which flatters the "
            "result: add dataset.holdout=0.1 to go by a part of the training split"
        )
    for name in settings.trackers:
        if name != "csv" and find_spec(name) is None:
            raise InputError(f"track={name} needs {name}, which is not installed: pip install 'lshfm[{name}]'")
    if settings.schedule.policy == "onecycle":
        _require_alone(settings.schedule, epochs)


def _require_alone(schedule: Schedule, epochs: int) -> None:
    others = {
        "cosine_epochs": schedule.cosine_epochs not in (0, epochs), "steps": bool(schedule.steps),
        "warmup": schedule.warmup > 0, "warmup_steps": schedule.warmup_steps > 0, "initial_lr": schedule.initial_lr > 0,
    }  # fmt: skip
    given = [f"schedule.{name}={getattr(schedule, name)}" for name, is_given in others.items() if is_given]
    if given:
        raise InputError(f"{', '.join(given)}: schedule=onecycle has its own way up and down; leave it out")


def require_label_loss(loss: LabelLoss, role: str, dataset: Dataset) -> None:
    """InputError for settings of the loss on labels that need no network to be refused. role: loss or label_loss.

    The data set's folder is there.
    """
    if loss.target != BCE:
        return
    name = f"{role}.pos_weight"
    weights = class_weights(name, loss.own.get("pos_weight"))
    fraction(f"{role}.label_smoothing", loss.own.get("label_smoothing", 0))
    if isinstance(weights, list) and not is_one_of_many():
        with at("dataset"):
            split = build(dataset.own, at="dataset").split(dataset.train_split)
        require_one_a_class(name, weights, len(split.classes))


def require_devices(gpus: Any) -> None:
    """InputError for a value of `gpus=` that names devices on no machine."""
    if gpus is not None:
        device_numbers(gpus)


def teacher_file(teacher: Teacher, folder: Path, folders: tuple[Path, ...] = ()) -> Path:
    """The file that teacher.path names: a path, or a checkpoint's name in `folder`. Raises InputError for neither.

    folders: of --config-dir, with networks of the user's own.
    """
    given = str(teacher.path)
    path = checkpoint_file(given, folder)
    if path.is_file():
        return path
    if which := named_twice("teacher", given):
        raise InputError(which)
    known = [*options("model", folders), *(path.stem for path in folder.glob("*.ckpt"))]
    near = nearest(given, known)
    raise InputError(f"teacher={given}: no network, no file and no checkpoint in {folder} is called so{near}")


def missing_teacher(job: Job[Mimic] | Job[Eval]) -> InputError:
    """The error where no checkpoint is of the network that the job names as its teacher."""
    settings = job.settings
    return InputError(
        f"no finished {settings.teacher.title} on {settings.dataset.name} is in "
        f"{Path(settings.checkpoint_dir).expanduser()}. Train one:\n  {shlex.join(train_command(job))}\n"
        "or give teacher=PATH"
    )


def train_command(job: Job[Mimic] | Job[Eval]) -> list[str]:
    """The command that trains the network which the job names as its teacher."""
    changed, option = job.changed, without_pooling(str(job.settings.teacher.option))
    words = ["lshfm", "train", f"dataset={job.settings.dataset.option}"]
    words += [f"{key}={value}" for key, value in changed.items() if key.startswith("dataset.")]
    words += [f"model={option}"]
    words += [f"model.{key}={value}" for key, value in _chosen_design(job.settings.teacher, option, changed).items()]
    return words


def _chosen_design(typed: Teacher, option: str, changed: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the teacher's network that were typed or come with its option's suffix, such as _GMP."""
    suffix = {"pool"} if option != typed.option else set()
    chosen = {key.removeprefix("teacher.") for key in changed} | suffix
    return {key: value for key, value in typed.design.items() if key in chosen}


def refuse_pretrained(group: str, network: Network) -> None:
    """InputError for `pretrained` of a network whose library fetches weights: `weights` says so. group: its key."""
    if network.fetches and network.own["pretrained"]:
        raise InputError(
            f"{group}.pretrained={str(network.own['pretrained']).lower()}: the key is {group}.weights=imagenet here, "
            "which has the network's library fetch its weights"
        )


def require_root(dataset: Dataset) -> None:
    """Where the data set's folder is not there its own reader says so, and what it expects there. Raises InputError."""
    root = dataset.own.get("root")
    if root is None or is_one_of_many() or is_folder(str(root)):
        return
    with at("dataset"):
        build(dataset.own, at="dataset").split(dataset.train_split)


def require_checkpoint(path: Path, named: str, output_dir: str = "outputs") -> None:
    """InputError for a file to evaluate that is not there; whatever is there is its reader's to judge.

    named: what was typed for it. output_dir: where a run may lie that is still to write it.
    """
    try:
        is_missing = not path.exists()
    except (OSError, ValueError):
        return
    if is_missing and not is_one_of_many():
        raise missing_checkpoint(path, named, Path(output_dir).expanduser())


ENDINGS = {"onnx": ".onnx", "pt2": ".pt2", "safetensors": ".safetensors"}  # of formats; others: _FORMAT.pth


def check_export(values: Mapping[str, Any]) -> None:
    """InputError for settings of an export that its format does not have."""
    name = values["format"]
    is_graph = name in ("onnx", "pt2")
    for key in ("uint8", "feature"):
        if values[key] and not is_graph and (key, name) not in (("feature", "safetensors"), ("feature", "published")):
            raise InputError(f"{key}=true is for format=onnx and pt2, which hold a graph; {name} holds weights alone")
    if values["precision"] == "int8" and name != "onnx":
        raise InputError(f"precision=int8 is for format=onnx, not {name}")


def check_tuning(thresholds: Mapping[str, Any]) -> None:
    """InputError for a goal that is none, or of thresholds that are not chosen."""
    goal = str(thresholds["goal"])
    if goal != "f1" and not thresholds["tune"]:
        raise InputError(f"thresholds.goal={goal} is of thresholds=tune, which is not asked for: add it")
    if not re.fullmatch(r"f1|(precision|recall):(0?\.\d*[1-9]\d*|1|1\.0+)", goal):
        raise InputError(f"thresholds.goal={goal}: must be f1, precision:P or recall:P, P a share such as 0.9")


def export_path(values: Mapping[str, Any], checkpoint: Path) -> Path:
    """The file that an export writes."""
    if values["file"]:
        return Path(values["file"]).expanduser()
    precision = "" if values["precision"] == "fp32" else f"_{values['precision']}"
    ending = ENDINGS.get(values["format"], f"_{values['format']}.pth")
    return Path("exports") / f"{checkpoint.stem}{precision}{ending}"


def require_absent(path: Path, *, overwrite: bool) -> None:
    """InputError for a file that would be replaced unasked, and for a folder in its place."""
    if path.is_dir():
        raise InputError(f"file={path} is a folder: name a file in it")
    if path.exists() and not overwrite:
        raise InputError(f"{path} is there already: file=PATH writes another, overwrite=true replaces it")


def require_input(named: str, key: str = "input") -> None:
    """InputError for pictures that are not there; what a glob, a list or a folder holds is read later."""
    try:
        is_missing = not any(char in named for char in "*?[") and not Path(named).expanduser().exists()
    except (OSError, ValueError):
        return
    if is_missing:
        raise InputError(f"{key}={printable(named)}: no such file or folder")


def require_starts(job: Job[Train]) -> None:
    """InputError for a file of starting weights that is not there."""
    _require_weights("model.weights", job.settings.model.weights)


def require_starts_of_mimic(job: Job[Mimic]) -> None:
    """InputError for a teacher's file, or a file that the student starts from, that is not there."""
    settings, student = job.settings, job.settings.student
    folder = Path(settings.checkpoint_dir).expanduser()
    if is_one_of_many():
        return
    if settings.teacher.path:
        teacher_file(settings.teacher, folder, job.folders)
    if settings.is_stage1:
        _require_weights("student.weights", student.weights)
    elif student.init and not (folder / f"{student.init}.ckpt").is_file():
        _require_weights("student.init", student.init)
    if not settings.teacher.path and not any(folder.glob("*.ckpt")):
        raise missing_teacher(job)


def _require_weights(key: str, weights: str | None) -> None:
    if weights not in NO_FILES and not is_one_of_many():
        weights_file(key, str(weights))


def is_one_of_many() -> bool:
    """Whether torchrun or srun started this process: then rank 0 looks at the files, once, for all of them."""
    is_torchrun = "RANK" in os.environ and "WORLD_SIZE" in os.environ
    return is_torchrun or os.environ.get("SLURM_STEP_NUM_TASKS", "1") != "1"
