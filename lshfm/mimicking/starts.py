"""Finds a student's starting weights: stage 1 takes student.weights; stage 2, with a projection, a stage 1's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from lshfm.config.groups import Network, Student
from lshfm.config.schema import Mimic
from lshfm.config.stages import fitting
from lshfm.console import logger
from lshfm.datasets.split import Split
from lshfm.errors import InputError
from lshfm.mimicking.teachers import TeacherFile
from lshfm.models.weights import Loaded
from lshfm.runs.checkpoint import checkpoints, fill, is_stage1, same_network
from lshfm.runs.layout import about_run, content_of, unpack
from lshfm.runs.place import weights_identity
from lshfm.tasks.task import Task

Content = Mapping[str, Any]


@dataclass(frozen=True)
class Start:
    """A student's starting weights, as model.weights takes them, and the stage 1 checkpoint they are of, if any."""

    weights: str
    stage1: Content | None = None

    @property
    def identity(self) -> Any:
        """Identifies the weights by their content, wherever the file lies."""
        return weights_identity(self.weights)

    def build(self, student: Student, task: Task, classes: Sequence[str], size: int) -> tuple[nn.Module, Loaded | None]:
        """The student with these weights."""
        if self.stage1 is None:
            return _build(_network(student, self.weights), task, classes, size)
        network, _ = _build(_network(student, "none"), task, classes, size)
        fill(network, self.stage1["model"], Path(self.weights))
        return network, None


def _network(student: Student, weights: str) -> Network:
    """The student's network, with a projection of the settled width."""
    # A user's own network need not take this argument.
    width = {} if student.projection is None else {"projection": student.projection}
    return Network(student.option, student.own | width, student.name, weights)


def find_start(settings: Mimic, teacher: TeacherFile, split: Split, aligned: Path | None = None) -> Start:
    """The student's starting weights; `aligned` is the stage 1 checkpoint that this command has just made for it.

    Raises InputError where a stage 1 is wanted and there is none, or several, or only of another teacher.
    """
    student = settings.student
    init = str(aligned) if aligned else student.init
    if settings.is_stage1 or (init is None and student.projection is None):
        return Start(student.weights or "none")
    if aligned is None and student.weights not in (None, "none", "auto", "imagenet"):
        where = f"student.init={init}" if init else "the stage 1 that it found; stage 1 starts there"
        logger.warning("student.weights=%s is not used: stage 2 starts at %s", student.weights, where)
    if init in ("none", "imagenet", "auto"):
        _say_unreleased(settings)
        return Start(init)
    if init is not None:
        path, named = Path(init).expanduser(), Path(settings.checkpoint_dir).expanduser() / f"{init}.ckpt"
        return _from_file(named if named.is_file() and not path.is_file() else path, settings, teacher)
    path, content = _own_stage1(settings, teacher, split)
    logger.info("starting from stage 1 %s", path)
    return Start(str(path), content)


def _build(network: Network, task: Task, classes: Sequence[str], size: int) -> tuple[nn.Module, Loaded | None]:
    """The task's network; if a user's own takes no argument `projection`, the error says what to do."""
    try:
        return task.network(network, classes, size, at="student")
    except InputError as error:
        if "does not take these settings" not in str(error) or "'projection'" not in str(error):
            raise
        hint = "A student with a projection takes that argument; student.projection=false goes without"
        raise InputError(f"{error}\n{hint}") from error


def _say_unreleased(settings: Mimic) -> None:
    file = settings.published_row.get("unreleased")
    if file:
        logger.info("the published run started from %s, which was never released; ImageNet weights instead", file)


def _from_file(path: Path, settings: Mimic, teacher: TeacherFile) -> Start:
    content = content_of(path) if path.is_file() else None
    if content is None or not is_stage1(content):
        return Start(str(path))
    if run := about_run(path):
        logger.info("taken: the student in %s, %s", path, run)
    _refuse_other_teacher(path, content, teacher)
    if not same_network(content, settings.student.option, settings.student.design):
        raise InputError(f"{path} aligned another student than {settings.student.title} with its settings")
    return Start(str(path), content)


def _refuse_other_teacher(path: Path, content: Content, teacher: TeacherFile) -> None:
    if content["teacher"]["identity"] != teacher.identity:
        its_teacher = content["teacher"]["checkpoint"]
        changed = " as it was then" if its_teacher == str(teacher.path) else ""
        raise InputError(
            f"{path} aligned its student to another teacher ({its_teacher}{changed}) than "
            f"{teacher.path}, so its features lead elsewhere. Align to this one with stage=1 (or stage=both); or "
            f"start at its backbone's weights all the same: student.projection=false student.weights={path}"
        )


def _own_stage1(settings: Mimic, teacher: TeacherFile, split: Split) -> tuple[Path, Content]:
    """The stage 1 of this teacher, student and data that fits best: by its loss, then by its seed."""
    folder = Path(settings.checkpoint_dir).expanduser()
    candidates = [entry for entry in checkpoints(folder) if _is_for(settings, split, entry[1])]
    if not candidates:
        raise InputError(
            f"no stage 1 of {settings.student.title} for {teacher.name} on {settings.dataset.name} is "
            f"in {folder}: the same command with stage=both (or stage=1) makes one; "
            "student.init=PATH, imagenet or none starts elsewhere"
        )
    same = [(path, content) for path, content in candidates if content["teacher"]["identity"] == teacher.identity]
    if not same:
        _refuse_other_teacher(*candidates[0], teacher)
    same = fitting(same, settings, lambda entry: (entry[1]["loss"], entry[1]["config"]["seed"]))
    if len(same) > 1:
        raise InputError(f"several stage 1 fit; choose one:\n{_listed([path for path, _ in same])}")
    path, _ = same[0]
    return path, unpack(path)


def _listed(paths: Sequence[Path]) -> str:
    return "\n".join(f"  student.init={path}" for path in paths)


def _is_for(settings: Mimic, split: Split, content: Content) -> bool:
    dataset, student = settings.dataset, settings.student
    return (
        is_stage1(content)
        and same_network(content, student.option, student.design)
        and content["dataset"]["values"]["name"] == dataset.name
        and (content["size"], content["mean"], content["std"]) == (dataset.size, dataset.mean, dataset.std)
        and content["classes"] == list(split.classes)
        and content["identity"]["data.train"] == split.fingerprint()
    )


def settled(
    student: Student, width: int, task: Task | None = None, classes: Sequence[str] = (), size: int = 0
) -> Student:
    """The student whose `projection` is a width: the teacher's feature width, or None without a projection.

    task, classes, size: to learn the student's own width by, where a projection is asked for only if it is another.
    """
    if student.projection == "needed":
        assert task
        network, _ = task.network(
            Network(student.option, student.own, student.name, "none"), classes, size, at="student"
        )
        return replace(student, projection=None if network.num_features == width else width)
    return replace(student, projection=None if student.projection is False else width)
