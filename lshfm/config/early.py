"""What can be told of settings before anything heavy is imported: devices, and files that are not there."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lshfm.checks import device_numbers, weights_file
from lshfm.config.build import build
from lshfm.config.catalogue import options
from lshfm.config.compose import Job
from lshfm.config.groups import Dataset, Teacher
from lshfm.config.schema import Mimic, Train
from lshfm.errors import InputError, at, nearest, printable

NO_FILES = (None, "none", "imagenet", "auto")  # starting weights that are no path


def require_devices(gpus: Any) -> None:
    """InputError for a value of `gpus=` that names devices on no machine."""
    if gpus is not None:
        device_numbers(gpus)


def teacher_file(teacher: Teacher, folder: Path, folders: tuple[Path, ...] = ()) -> Path:
    """The file that teacher.path names: a path, or a checkpoint's name in `folder`. Raises InputError for neither.

    folders: of --config-dir, with networks of the user's own.
    """
    given = str(teacher.path)
    for path in (Path(given).expanduser(), folder / f"{given}.ckpt"):
        if path.is_file():
            return path
    known = [*options("model", folders), *(path.stem for path in folder.glob("*.ckpt"))]
    raise InputError(
        f"teacher={given}: no network, no file and no checkpoint in {folder} is called so{nearest(given, known)}"
    )


def require_root(dataset: Dataset) -> None:
    """Where the data set's folder is not there its own reader says so, and what it expects there. Raises InputError."""
    root = dataset.own.get("root")
    if root is None or is_one_of_many() or _is_folder(str(root)):
        return
    with at("dataset"):
        build(dataset.own, at="dataset").split(dataset.train_split)


def require_checkpoint(path: Path, named: str) -> None:
    """InputError for a file to evaluate that is not there; whatever is there is its reader's to judge.

    named: what was typed for it.
    """
    try:
        is_missing = not path.exists()
    except (OSError, ValueError):
        return
    if is_missing and not is_one_of_many():
        raise InputError(_missing(path, named))


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


def checkpoint_file(named: str, folder: Path) -> Path:
    """The file that a path, or the name of a finished checkpoint in `folder`, means; it need not be there."""
    finished = folder / f"{named.removesuffix('.ckpt')}.ckpt"
    is_name = re.fullmatch(r"[A-Za-z0-9._-]+", named) and not Path(named).is_file()
    return finished if is_name and (finished.is_file() or not Path(named).suffix) else Path(named).expanduser()


def _missing(path: Path, named: str) -> str:
    if path == Path(named).expanduser():
        return f"{path}: no such file"
    near = nearest(named, (other.stem for other in path.parent.glob("*.ckpt")))
    return f"checkpoint={named}: no such file, and no checkpoint in {path.parent} is called so{near}"


def require_starts(job: Job[Train]) -> None:
    """InputError for a file of starting weights that is not there."""
    _require_weights("model.weights", job.settings.model.weights)


def require_starts_of_mimic(job: Job[Mimic]) -> None:
    """InputError for a teacher's file, or a file that the student starts from, that is not there."""
    settings, student = job.settings, job.settings.student
    folder = Path(settings.checkpoint_dir).expanduser()
    if settings.teacher.path and not is_one_of_many():
        teacher_file(settings.teacher, folder, job.folders)
    if settings.is_stage1:
        _require_weights("student.weights", student.weights)
    elif student.init and not (folder / f"{student.init}.ckpt").is_file():
        _require_weights("student.init", student.init)


def _require_weights(key: str, weights: str | None) -> None:
    if weights not in NO_FILES and not is_one_of_many():
        weights_file(key, str(weights))


def is_one_of_many() -> bool:
    """Whether torchrun or srun started this process: then rank 0 looks at the files, once, for all of them."""
    is_torchrun = "RANK" in os.environ and "WORLD_SIZE" in os.environ
    return is_torchrun or os.environ.get("SLURM_STEP_NUM_TASKS", "1") != "1"


def _is_folder(name: str) -> bool:
    try:
        return Path(name).expanduser().is_dir()
    except (OSError, ValueError):
        return False  # the reader says what is wrong with it
