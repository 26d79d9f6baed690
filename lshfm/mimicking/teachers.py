"""Finding the teacher that a command names: a network, a finished checkpoint's name, or any file."""

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lshfm.config.catalogue import is_teacher
from lshfm.config.compose import Job
from lshfm.config.early import missing_teacher, teacher_file
from lshfm.config.groups import Dataset, without_pooling
from lshfm.config.groups import Teacher as TeacherSettings
from lshfm.config.schema import Eval, Mimic
from lshfm.console import logger
from lshfm.datasets.split import Split
from lshfm.errors import InputError, printable
from lshfm.files.read import digest
from lshfm.objectives.teacher import Normalisation, Teacher, renormalisation
from lshfm.runs.checkpoint import Checkpoint, checkpoints, same_network
from lshfm.tasks.networks import place
from lshfm.tasks.task import Task

FEW = 20  # classes that a message lists


@dataclass(frozen=True)
class TeacherFile:
    """A teacher's network and the checkpoint file it was found in."""

    path: Path
    name: str  # of the network, with its pooling: resnet101_GMP
    network: nn.Module
    identity: str  # SHA-256 over its weights
    normalisation: Normalisation | None  # from the student's pixels to its own; None where they are the same
    data: str | None  # fingerprint of the split that it was trained on, where its file tells
    constants: dict[str, Any] = field(default_factory=dict)  # as Task.constants
    make: Callable[..., Teacher] = Teacher  # as Task.teacher

    def record(self) -> dict[str, str]:
        """The entry on it in results and checkpoints."""
        return {"name": self.name, "checkpoint": str(self.path), "identity": self.identity}

    def placed(self, device: torch.device, *, precision: str, channels_last: bool) -> Teacher:
        """The teacher as objectives take it, on its device."""
        teacher = self.make(self.network, precision=precision, normalisation=self.normalisation)
        place(teacher, device, channels_last=channels_last)
        return teacher


def cast_once(teacher: Teacher, size: int, device: torch.device) -> None:
    """Have the steps of a bf16 teacher cast its weights once, where that leaves its outputs as they are."""
    if teacher.precision == "bf16":
        images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
        teacher.cast_once(images.to(device))


def find_teacher(job: Job[Mimic] | Job[Eval], task: Task, split: Split) -> TeacherFile:
    """The teacher that the job's `teacher` group means, for the data set of `split`.

    Raises InputError if there is none or several, and if its data set or its classes are others.
    """
    dataset, typed = job.settings.dataset, job.settings.teacher
    checkpoint = Checkpoint.open(_path(job, split), job.folders)
    path = checkpoint.path
    if checkpoint.settings:
        _check_network(checkpoint, typed)
    elif typed.target is None:
        raise InputError(
            f"{path} does not say which network it holds: add it, as teacher=NETWORK teacher.path={path} (with "
            f"experiment=, which names it, teacher.path={path} alone)"
        )
    if checkpoint.content is not None:
        _check_fits(checkpoint, job, split)
    else:
        logger.info(
            "%s names no data set: it is taken to be of %s, for its %d classes in this order",
            path, dataset.name, len(split.classes),
        )  # fmt: skip
    network = checkpoint.network(
        task, split.classes, dataset.size, built_as=None if checkpoint.settings else typed,
        cannot=f"cannot teach {len(split.classes)} classes of {dataset.name}", at="teacher",
    )  # fmt: skip
    broken = [name for name, tensor in network.state_dict().items() if not torch.isfinite(tensor).all()]
    if broken:
        raise InputError(f"the teacher {path} is broken: {broken[0]} holds values that are not finite")
    pixels = renormalisation(dataset.mean, dataset.std, *checkpoint.normalisation_on(dataset))
    name = (checkpoint.settings or typed).title
    return TeacherFile(
        path, name, network, digest(network.state_dict()), pixels, checkpoint.data, task.constants(network),
        task.teacher,
    )  # fmt: skip


def _folder(job: Job[Mimic] | Job[Eval]) -> Path:
    return Path(job.settings.checkpoint_dir).expanduser()


def _path(job: Job[Mimic] | Job[Eval], split: Split) -> Path:
    if not job.settings.teacher.path:
        return _only_candidate(job, split)
    return teacher_file(job.settings.teacher, _folder(job), job.folders)


def _only_candidate(job: Job[Mimic] | Job[Eval], split: Split) -> Path:
    """The one finished `train` checkpoint of the network that the job names, on this data set.

    Of several that were trained on data sets of this name, as sets of one layout have, that of these very images.
    """
    typed, dataset = job.settings.teacher, job.settings.dataset.name
    option = without_pooling(str(typed.option))
    found = [
        (path, content)
        for path, content in checkpoints(_folder(job))
        if content.get("command", "train") == "train"
        and same_network(content, option, typed.design)
        and content["dataset"]["values"]["name"] == dataset
        and content["classes"] == list(split.classes)
    ]
    same = [path for path, content in found if (content.get("identity") or {}).get("data.train") == split.fingerprint()]
    candidates = same or [path for path, _ in found]
    if len(candidates) > 1:
        listed = "\n".join(f"  teacher={path if is_teacher(path.stem) else path.stem}" for path in candidates)
        raise InputError(f"several finished {typed.title} on {dataset} are in {_folder(job)}; choose one:\n{listed}")
    if not candidates:
        raise missing_teacher(job)
    return candidates[0]


def _check_fits(checkpoint: Checkpoint, job: Job[Mimic] | Job[Eval], split: Split) -> None:
    assert checkpoint.content
    path, dataset, content = checkpoint.path, job.settings.dataset, checkpoint.content
    trained_on = content["dataset"]["values"]["name"]
    differs = checkpoint.class_mismatch(split.classes, dataset.name)
    if trained_on != dataset.name:
        way = "" if differs else f"; their classes are the same: dataset.name={trained_on} takes it"
        own = _own_data(content) if content["dataset"]["option"] != dataset.option else ""
        raise InputError(f"the teacher {path} was trained on {trained_on}, but this is {dataset.name}{own}{way}")
    if differs:
        raise InputError(f"the teacher {path}: {differs}; {_way_out(checkpoint, dataset, split)}")
    if checkpoint.is_stage1:
        raise InputError(f"{path} is of a stage 1: its classifier is untrained, so it is no teacher")
    if content["size"] != dataset.size:
        logger.warning("the teacher was trained at %d pixels and now sees %d", content["size"], dataset.size)


def _own_data(content: Mapping[str, Any]) -> str:
    """A clause with the words for the data set that a checkpoint was trained on."""
    option, root = content["dataset"]["option"], content["dataset"]["values"].get("root")
    where = f" dataset.root={shlex.quote(printable(str(root)))}" if root else ""
    return f"; its own data is dataset={option}{where}"


def _way_out(checkpoint: Checkpoint, dataset: Dataset, split: Split) -> str:
    """What to do about a teacher of other classes: a data set may have some that no image shows."""
    theirs = checkpoint.classes or ()
    if "classes" in dataset.own and set(theirs).issuperset(split.classes):
        listed = ",".join(map(_as_typed, theirs)) if len(theirs) <= FEW else "..."
        word = shlex.quote(f"dataset.classes=[{printable(listed)}]")
        return f"{word} gives these images the teacher's classes, in its order"
    return "train a teacher of these classes"


def _as_typed(name: str) -> str:
    """A class as a part of a list on the command line: in quotes unless it is a word."""
    return name if re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII) else '"' + name.replace('"', r"\"") + '"'


def _check_network(checkpoint: Checkpoint, typed: TeacherSettings) -> None:
    """InputError for a network named beside the path of a file that holds another."""
    if typed.target is not None and checkpoint.title != typed.title:
        path = checkpoint.path
        raise InputError(
            f"{path} holds {checkpoint.title}, not {typed.title}: teacher={path} alone takes what it holds"
        )
