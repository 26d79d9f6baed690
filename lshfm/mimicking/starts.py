"""Where a student starts: stage 1 at its starting weights, stage 2 at a stage 1 if it has a projection."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from lshfm.config.compose import Job
from lshfm.config.stages import published, stage1_losses
from lshfm.console import logger
from lshfm.datasets.split import Split
from lshfm.errors import InputError
from lshfm.mimicking.teachers import TeacherFile, checkpoints, is_stage1, same_network
from lshfm.models.weights import Loaded
from lshfm.runs import checkpoint
from lshfm.runs.naming import network_name
from lshfm.runs.place import weights_identity
from lshfm.tasks import networks

Content = Mapping[str, Any]


@dataclass(frozen=True)
class Start:
    """Starting weights as model.weights takes them, and the stage 1 that they are of, if they are."""

    weights: str
    stage1: Content | None = None

    @property
    def identity(self) -> Any:
        """What the weights are, wherever they lie."""
        return weights_identity(self.weights)

    def build(self, job: Job, split: Split) -> tuple[nn.Module, Loaded | None]:
        """The student with these weights."""
        values = {name: value for name, value in job.values["student"].items() if name != "init"}
        if values["projection"] is None:
            del values["projection"]  # a user's own network need not know the word
        size = job.values["dataset"]["size"]
        if self.stage1 is None:
            return _build(values | {"weights": self.weights}, split, size)
        network, _ = _build(values | {"weights": "none"}, split, size)
        path = Path(self.weights)
        checkpoint.check_weights(path, network, self.stage1["model"])
        return network, None


def find_start(job: Job, teacher: TeacherFile, split: Split, aligned: Path | None = None) -> Start:
    """Where the job's student starts; `aligned` is the stage 1 that has just been made for it.

    Raises InputError where a stage 1 is wanted and there is none, or several, or only of another teacher.
    """
    student = job.values["student"]
    init = str(aligned) if aligned else student["init"]
    if job.values["stage"]["name"] == "1" or (init is None and student["projection"] is None):
        return Start(str(student.get("weights") or "none"))
    if aligned is None and student.get("weights") not in (None, "none", "auto", "imagenet"):
        logger.warning("student.weights=%s is where stage 1 starts; stage 2 does not use it", student["weights"])
    if init in ("none", "imagenet", "auto"):
        _say_unreleased(job)
        return Start(init)
    if init is not None:
        path, named = Path(init).expanduser(), Path(job.values["checkpoint_dir"]).expanduser() / f"{init}.ckpt"
        return _from_file(named if named.is_file() and not path.is_file() else path, job, teacher)
    path, content = _own_stage1(job, teacher, split)
    logger.info("starting from stage 1 %s", path)
    return Start(str(path), content)


def _build(values: dict[str, Any], split: Split, size: int) -> tuple[nn.Module, Loaded | None]:
    """build_network, whose complaints name the keys of `model`."""
    try:
        return networks.build_network(values, split.classes, size)
    except InputError as error:
        hint = ""
        if "does not take these settings" in str(error) and "'projection'" in str(error):
            hint = "\nA student with a projection takes that argument; student.projection=false goes without"
        text = re.sub(r"\bmodel\.(weights|pool|projection|arch)\b", r"student.\1", str(error))
        raise InputError(text + hint) from error


def _say_unreleased(job: Job) -> None:
    file = published(job).get("unreleased")
    if file:
        logger.info("the published run started from %s, which was never released; ImageNet weights instead", file)


def _from_file(path: Path, job: Job, teacher: TeacherFile) -> Start:
    if not path.is_file() or not checkpoint.is_ours(path):
        return Start(str(path))
    content = checkpoint.unpack(path)
    if not is_stage1(content):
        return Start(str(path))
    _refuse_other_teacher(path, content, teacher)
    if not same_network(content, job.choices["student"], job.values["student"]):
        raise InputError(f"{path} aligned another student than {network_name(job, 'student')} with its settings")
    return Start(str(path), content)


def _refuse_other_teacher(path: Path, content: Content, teacher: TeacherFile) -> None:
    if content["teacher"]["identity"] != teacher.identity:
        before = content["teacher"]["checkpoint"]
        changed = " as it was then" if before == str(teacher.path) else ""
        raise InputError(
            f"{path} aligned its student to another teacher ({before}{changed}) than "
            f"{teacher.path}, so its features lead elsewhere. Align to this one with stage=1 (or stage=both); or "
            f"start at its backbone's weights all the same: student.projection=false student.weights={path}"
        )


def _own_stage1(job: Job, teacher: TeacherFile, split: Split) -> tuple[Path, Content]:
    """The stage 1 of this teacher, student and data that fits best: by its loss, then by its seed."""
    folder = Path(job.values["checkpoint_dir"]).expanduser()
    found = [entry for entry in checkpoints(folder) if _is_for(job, split, entry[1])]
    if not found:
        raise InputError(
            f"no stage 1 of {network_name(job, 'student')} for {teacher.name} on {job.values['dataset']['name']} is "
            f"in {folder}: the same command with stage=both (or stage=1) makes one; "
            "student.init=PATH, imagenet or none starts elsewhere"
        )
    same = [(path, content) for path, content in found if content["teacher"]["identity"] == teacher.identity]
    if not same:
        _refuse_other_teacher(*found[0], teacher)
    values = job.values
    preferences: list[Callable[[Content], bool]] = [
        lambda content: content["loss"] == "-".join(stage1_losses(job)),
        lambda content: content["loss"] == values["loss"]["name"],
        lambda content: content["config"]["seed"] == values["seed"],
    ]
    for fits in preferences:
        same = [entry for entry in same if fits(entry[1])] or same
    if len(same) > 1:
        raise InputError(f"several stage 1 fit; choose one:\n{_listed([path for path, _ in same])}")
    path, _ = same[0]
    return path, checkpoint.unpack(path)


def _listed(paths: Sequence[Path]) -> str:
    return "\n".join(f"  student.init={path}" for path in paths)


def _is_for(job: Job, split: Split, content: Content) -> bool:
    dataset = job.values["dataset"]
    return (
        is_stage1(content)
        and same_network(content, job.choices["student"], job.values["student"])
        and content["dataset"]["values"]["name"] == dataset["name"]
        and (content["size"], content["mean"], content["std"]) == (dataset["size"], dataset["mean"], dataset["std"])
        and content["classes"] == list(split.classes)
        and content["identity"]["data.train"] == split.fingerprint()
    )
