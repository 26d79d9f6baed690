"""Finding the teacher that a command names, and reading it: a network, a finished checkpoint's name, or any file."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lshfm.config.compose import Job, network_values
from lshfm.config.launch import options
from lshfm.config.teachers import without_pooling
from lshfm.console import logger
from lshfm.datasets.split import Split
from lshfm.errors import InputError, nearest
from lshfm.files.read import digest, read_checkpoint
from lshfm.models.weights import published_network
from lshfm.objectives.teacher import Normalisation, Teacher, renormalisation
from lshfm.runs import checkpoint
from lshfm.runs.naming import network_name
from lshfm.tasks import networks

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])  # what the published code normalises by

Content = Mapping[str, Any]


@dataclass(frozen=True)
class TeacherFile:
    """A teacher as it was found."""

    path: Path
    name: str  # of the network, with its pooling: resnet101_GMP
    network: nn.Module
    identity: str  # SHA-256 over its weights
    normalisation: Normalisation | None  # where its pixels are normalised otherwise than the student's
    data: str | None  # fingerprint of the split that it was trained on, where its file tells

    def record(self) -> dict[str, str]:
        """What results and checkpoints say of it."""
        return {"name": self.name, "checkpoint": str(self.path), "identity": self.identity}


def find_teacher(job: Job, split: Split) -> TeacherFile:
    """The teacher that the job's `teacher` group means, for the data set of `split`.

    Raises InputError if there is none or several, and if its data set or its classes are others.
    """
    path = _path(job, split)
    file = read_checkpoint(path)
    if file.get("format") == checkpoint.FORMAT:
        content = checkpoint.unpack(path)
        _check_fits(path, content, job, split)
        node = network_values(content["network"]["option"], content["network"]["values"])
        _check_network(path, node, job)
        mean, std = content["mean"], content["std"]
    else:
        content = None
        node = _foreign_network(path, job)
        mean, std = IMAGENET
        logger.info(
            "%s names no data set: it is taken to be of %s, for its %d classes in this order",
            path, job.values["dataset"]["name"], len(split.classes),
        )  # fmt: skip
    dataset = job.values["dataset"]
    network, loaded = networks.build_network(node, split.classes, dataset["size"])
    if content is not None:
        checkpoint.check_weights(path, network, content["model"])
    elif loaded and loaded.missing:
        raise InputError(f"{path} cannot teach {len(split.classes)} classes of {dataset['name']}: {loaded.describe()}")
    broken = [name for name, tensor in network.state_dict().items() if not torch.isfinite(tensor).all()]
    if broken:
        raise InputError(f"the teacher {path} is broken: {broken[0]} holds values that are not finite")
    pixels = renormalisation(dataset["mean"], dataset["std"], mean, std)
    return TeacherFile(path, _name(node), network, digest(network.state_dict()), pixels, _data(content))


def place_teacher(file: TeacherFile, where: torch.device, values: dict[str, Any]) -> Teacher:
    """The teacher as objectives take it, on its device."""
    teacher = Teacher(file.network, precision=values["precision"], normalisation=file.normalisation)
    networks.place(teacher, where, values)
    return teacher


def is_stage1(content: Content) -> bool:
    """Whether a checkpoint of ours is of a stage 1, so that its classifier is untrained."""
    return content.get("command") == "mimic" and content.get("stage") == "1"


def same_network(content: Content, option: str | None, values: Mapping[str, Any]) -> bool:
    """Whether a checkpoint's network was built by this option with these values, wherever its weights came from."""
    there = content["network"]
    return bool(there["option"] == option and _design(there["values"]) == _design(values))


def checkpoints(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """All finished checkpoints of ours in a folder, by name, to choose from; what cannot be read is no candidate.

    Whether all of a file's bytes are right is not looked at: that would mean reading every one of them.
    """
    found = []
    for path in sorted(folder.glob("*.ckpt")):
        try:
            found.append((path, checkpoint.unpack(path, whole=False)))
        except InputError as error:
            logger.warning("left aside: %s", error)
    return found


def _design(values: Mapping[str, Any]) -> dict[str, Any]:
    names = {"name", "weights", "path", "init", "_target_"}
    return {name: value for name, value in values.items() if name not in names and value is not None}


def _name(node: Mapping[str, Any]) -> str:
    name, pool = str(node.get("name") or node.get("arch")), node.get("pool")
    return name if pool in (None, "GAP") else f"{name}_{pool}"


def _folder(job: Job) -> Path:
    return Path(job.values["checkpoint_dir"]).expanduser()


def _path(job: Job, split: Split) -> Path:
    given = job.values["teacher"].get("path")
    if not given:
        return _only_candidate(job, split)
    for path in (Path(given).expanduser(), _folder(job) / f"{given}.ckpt"):
        if path.is_file():
            return path
    known = [*options("model"), *(path.stem for path in _folder(job).glob("*.ckpt"))]
    raise InputError(
        f"teacher={given}: no network, no file and no checkpoint in {_folder(job)} is called so{nearest(given, known)}"
    )


def _only_candidate(job: Job, split: Split) -> Path:
    """The one finished `train` checkpoint of the network that the job names, on this data set."""
    option, values = without_pooling(str(job.choices["teacher"])), job.values["teacher"]
    dataset = job.values["dataset"]["name"]
    candidates = [
        path
        for path, content in checkpoints(_folder(job))
        if content.get("command", "train") == "train"
        and same_network(content, option, values)
        and content["dataset"]["values"]["name"] == dataset
        and content["classes"] == list(split.classes)
    ]
    name = network_name(job, "teacher")
    if len(candidates) > 1:
        listed = "\n".join(f"  teacher={path.stem}" for path in candidates)
        raise InputError(f"several finished {name} on {dataset} are in {_folder(job)}; choose one:\n{listed}")
    if not candidates:
        raise InputError(
            f"no finished {name} on {dataset} is in {_folder(job)}. Train one:\n"
            f"  {_train_command(job, option)}\nor give teacher=PATH"
        )
    return candidates[0]


def _train_command(job: Job, option: str) -> str:
    words = ["lshfm", "train", f"dataset={job.choices['dataset']}"]
    words += [f"{key}={value}" for key, value in job.changed.items() if key.startswith("dataset.")]
    words += [f"model={option}"]
    words += [f"model.{key}={value}" for key, value in _chosen_design(job, option).items()]
    return shlex.join(words)


def _chosen_design(job: Job, option: str) -> dict[str, Any]:
    """What of the teacher's network was typed, or comes with its option's suffix."""
    suffix = {"pool"} if option != job.choices["teacher"] else set()
    chosen = {key.removeprefix("teacher.") for key in job.changed} | suffix
    return {key: value for key, value in _design(job.values["teacher"]).items() if key in chosen}


def _check_fits(path: Path, content: Content, job: Job, split: Split) -> None:
    dataset, trained_on = job.values["dataset"], content["dataset"]["values"]["name"]
    if trained_on != dataset["name"]:
        raise InputError(f"the teacher {path} was trained on {trained_on}, but this is {dataset['name']}")
    if content["classes"] != list(split.classes):
        raise InputError(
            f"the teacher {path}: " + checkpoint.class_mismatch(content["classes"], split.classes, dataset["name"])
        )
    if is_stage1(content):
        raise InputError(f"{path} is of a stage 1: its classifier is untrained, so it is no teacher")
    if content["size"] != dataset["size"]:
        logger.warning("the teacher was trained at %d pixels and now sees %d", content["size"], dataset["size"])


def _check_network(path: Path, node: Mapping[str, Any], job: Job) -> None:
    """A network named beside a path must be the one in the file."""
    if "_target_" in job.values["teacher"] and _name(node) != network_name(job, "teacher"):
        raise InputError(
            f"{path} holds {_name(node)}, not {network_name(job, 'teacher')}: teacher={path} alone takes what it holds"
        )


def _data(content: Content | None) -> str | None:
    return ((content or {}).get("identity") or {}).get("data.train")


def _foreign_network(path: Path, job: Job) -> dict[str, Any]:
    """The network of a checkpoint of the published code, which names it, or the one that the user names."""
    known = published_network(path)
    if known:
        option, values = known
        node = network_values(option, values)
        _check_network(path, node, job)
        return node | {"weights": str(path)}
    if "_target_" in job.values["teacher"]:
        return {k: v for k, v in job.values["teacher"].items() if k != "path"} | {"weights": str(path)}
    raise InputError(f"{path} does not say which network it holds: add it, as teacher=resnet34 teacher.path={path}")
