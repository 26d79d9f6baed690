"""Small jobs, their data, and the checkpoints that mimic looks for, written without any training."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from torch import nn

from lshfm.config.compose import Job, compose, conf_folder
from lshfm.config.schema import Mimic, Train, Training
from lshfm.config.stages import plan
from lshfm.config.words import rewrite
from lshfm.console import logger
from lshfm.datasets.shapes import CLASSES
from lshfm.datasets.split import Split
from lshfm.engine.state import State
from lshfm.files.read import digest
from lshfm.files.write import write_checkpoint
from lshfm.mimicking.teachers import TeacherFile, find_teacher
from lshfm.models.cifar import cifar_classifier
from lshfm.runs import layout
from lshfm.tasks import pixels
from lshfm.tasks.task import Task, open_task

SMALL = ("dataset.num_train=24", "dataset.num_eval=12", "dataset.size=16", "dataset.cache=off", "workers=0", "gpus=[]")
CPU = torch.device("cpu")
TRAIN, TEST = 12, 6  # images of `settings`

S = TypeVar("S")
J = TypeVar("J", Job[Train], Job[Mimic])


@pytest.fixture
def hydra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In an empty folder, as inside a running command."""
    monkeypatch.chdir(tmp_path)
    with conf_folder():
        yield


@pytest.fixture
def settings(tmp_path: Path) -> Train:
    """Of a train command on a small set that is decoded as it is needed."""
    sizes = [f"++dataset.num_train={TRAIN}", f"++dataset.num_eval={TEST}", "dataset.size=16"]
    batches = ["batch_size=5", "eval_batch_size=4", "model=resnet8", "workers=0"]
    with conf_folder():
        return compose(Train, [*sizes, *batches, f"dataset.cache_dir={tmp_path}", "dataset.cache=off"]).settings


def after_step(stop: tuple[int, int], then: Callable[[], object]) -> Callable[..., None]:
    """State.update that does something more at one place of a run: after so many epochs, and steps of the next one."""
    update = State.update

    def updating(state: State, lr: float) -> None:
        update(state, lr)
        if (state.epoch, state.step) == stop:
            then()

    return updating


def interrupt() -> None:
    """What Ctrl-C comes to."""
    raise KeyboardInterrupt


def changed(settings: S, values: Mapping[str, Any]) -> S:
    """Settings, or a group of them, with other values under dotted keys; what a group does not know is its own."""
    for dotted, value in values.items():
        name, _, rest = dotted.partition(".")
        inner = changed(getattr(settings, name), {rest: value}) if rest else value
        known = {each.name for each in fields(settings)}  # type: ignore[arg-type]
        other = {name: inner} if name in known else {"own": settings.own | {name: inner}}  # type: ignore[attr-defined]
        settings = replace(settings, **other)  # type: ignore[type-var]
    return settings


def changed_job(job: J, values: Mapping[str, Any]) -> J:
    """A job with other values under dotted keys of its settings."""
    return replace(job, settings=changed(job.settings, values))


def task_of(settings: Training) -> Task:
    """The task of the data set."""
    return open_task(settings.dataset)


def splits(settings: Training) -> list[Split]:
    """What `settings` train and test on."""
    return pixels.read_splits(settings.dataset, ["train", "test"])


def opened(settings: Training) -> pixels.TrainingData:
    """The same as batches."""
    train, test = splits(settings)
    return pixels.TrainingData.open(train, test, settings, CPU)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the log is told."""
    lines: list[str] = []
    for level in ("info", "warning"):
        monkeypatch.setattr(logger, level, lambda text, *values, **_: lines.append(str(text) % values))
    return lines


@cache
def _planned(*words: str) -> tuple[Job[Mimic], ...]:
    return tuple(plan(rewrite("mimic", [*SMALL, *words]))[0])


def jobs(*words: str) -> list[Job[Mimic]]:
    """The jobs of a mimic command on a small set."""
    return list(_planned(*words))


def job(*words: str) -> Job[Mimic]:
    """The one job of a mimic command, resnet8 to resnet8 unless `words` say otherwise."""
    (only,) = jobs("teacher=resnet8", "student=resnet8", *(words or ["stage=2"]))
    return only


def split_of(job: Job[Train] | Job[Mimic]) -> Split:
    """What the job trains on."""
    dataset = job.settings.dataset
    return pixels.read_splits(dataset, [dataset.train_split])[0]


@cache
def _trained() -> Job[Train]:
    return compose(Train, rewrite("train", ["model=resnet8", *SMALL]))


def find(job: Job[Mimic], given: Path | str | None = None) -> TeacherFile:
    """The job's teacher; `given`: as teacher=PATH or teacher=NAME."""
    if given is not None:
        teacher = {"option": "checkpoint", "own": {}, "name": None, "weights": None, "path": str(given)}
        job = changed_job(job, {f"teacher.{name}": value for name, value in teacher.items()})
    return find_teacher(job, task_of(job.settings), split_of(job))


def network(seed: int = 0, arch: str = "resnet8", classes: int = len(CLASSES), **design: Any) -> nn.Module:
    """Fresh weights of a seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return cifar_classifier(arch, classes, **design)


def save_trained(
    name: str, *, model: nn.Module | None = None, classes: Sequence[str] = CLASSES, pool: str = "GAP",
    arch: str = "resnet8", dataset: Mapping[str, Any] | None = None, **record: Any,
) -> Path:  # fmt: skip
    """checkpoints/NAME.ckpt as train leaves it, with the network's design and the data set's values changed."""
    network_is: dict[str, Any] = {"model.option": arch, "model.arch": arch, "model.name": arch, "model.pool": pool}
    if model is not None and getattr(model, "projection", None) is not None:
        network_is["model.projection"] = model.num_features
    others = {f"dataset.{name}": value for name, value in (dataset or {}).items()}
    trained = changed_job(_trained(), network_is | others)
    record = {"command": "train", "identity": {"data.train": split_of(trained).fingerprint()}} | record
    settings, model = trained.settings, model or network(arch=arch, pool=pool)
    content = layout.pack(settings, settings.model, model, classes, **record)
    write_checkpoint(Path(f"checkpoints/{name}.ckpt"), content)
    return Path(f"checkpoints/{name}.ckpt")


def save_aligned(
    name: str, *, teacher: nn.Module | None = None, projection: int = 64, seed: int = 0,
    dataset: Mapping[str, Any] | None = None, **record: Any,
) -> Path:  # fmt: skip
    """checkpoints/NAME.ckpt as stage 1 leaves it: resnet8 aligned by l2 to `teacher`, a resnet8 of seed 0."""
    others = {f"dataset.{name}": value for name, value in (dataset or {}).items()}
    aligned = changed_job(job("stage=1", "loss=l2"), {"student.projection": projection, "seed": seed} | others)
    identity = digest((teacher or network()).state_dict())
    record = {
        "command": "mimic",
        "stage": "1",
        "loss": "l2",
        "teacher": {"name": "resnet8", "checkpoint": "checkpoints/its.ckpt", "identity": identity},
        "identity": {"data.train": split_of(aligned).fingerprint()},
    } | record
    settings, student = aligned.settings, network(7, projection=projection)
    write_checkpoint(
        Path(f"checkpoints/{name}.ckpt"), layout.pack(settings, settings.student, student, CLASSES, **record)
    )
    return Path(f"checkpoints/{name}.ckpt")
