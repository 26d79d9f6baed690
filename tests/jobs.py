"""Small jobs, their data, and the checkpoints that mimic looks for, written without any training."""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lshfm.config.compose import Job, compose, conf_folder
from lshfm.config.stages import plan
from lshfm.config.words import rewrite
from lshfm.console import logger
from lshfm.datasets.shapes import CLASSES
from lshfm.datasets.split import Split
from lshfm.files.read import digest
from lshfm.files.write import write_checkpoint
from lshfm.mimicking.teachers import TeacherFile, find_teacher
from lshfm.models.cifar import cifar_classifier
from lshfm.runs import checkpoint
from lshfm.tasks import pixels

SMALL = ("dataset.num_train=24", "dataset.num_eval=12", "dataset.size=16", "dataset.cache=off", "workers=0", "gpus=[]")
CPU = torch.device("cpu")
TRAIN, TEST = 12, 6  # images of `values`


@pytest.fixture
def hydra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In an empty folder, as inside a running command."""
    monkeypatch.chdir(tmp_path)
    with conf_folder():
        yield


@pytest.fixture
def values(tmp_path: Path) -> dict[str, Any]:
    """Of a train command on a small set that is decoded as it is needed."""
    sizes = [f"++dataset.num_train={TRAIN}", f"++dataset.num_eval={TEST}", "dataset.size=16"]
    batches = ["batch_size=5", "eval_batch_size=4", "model=resnet8", "workers=0"]
    with conf_folder():
        return compose("train", [*sizes, *batches, f"dataset.cache_dir={tmp_path}", "dataset.cache=off"]).values


def splits(values: dict[str, Any]) -> list[Split]:
    """What `values` train and test on."""
    return pixels.read_splits(values["dataset"], ["train", "test"])


def opened(values: dict[str, Any]) -> pixels.TrainingData:
    """The same as batches."""
    return pixels.TrainingData.open(*splits(values), values, CPU)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the log is told."""
    lines: list[str] = []
    for level in ("info", "warning"):
        monkeypatch.setattr(logger, level, lambda text, *values: lines.append(str(text) % values))
    return lines


@cache
def _planned(*words: str) -> list[Job]:
    return plan(rewrite([*SMALL, *words]))


def jobs(*words: str) -> list[Job]:
    """The jobs of a mimic command on a small set, to be changed at will."""
    return deepcopy(_planned(*words))


def job(*words: str) -> Job:
    """The one job of a mimic command, resnet8 to resnet8 unless `words` say otherwise."""
    (only,) = jobs("teacher=resnet8", "student=resnet8", *(words or ["stage=2"]))
    return only


def split_of(job: Job) -> Split:
    """What the job trains on."""
    dataset = job.values["dataset"]
    return pixels.read_splits(dataset, [dataset["train_split"]])[0]


@cache
def _trained() -> Job:
    return compose("train", rewrite(["model=resnet8", *SMALL]))


def find(job: Job, given: Path | str | None = None) -> TeacherFile:
    """The job's teacher; `given`: as teacher=PATH or teacher=NAME."""
    if given is not None:
        job.choices["teacher"], job.values["teacher"] = "checkpoint", {"path": str(given)}
    return find_teacher(job, split_of(job))


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
    trained = deepcopy(_trained())
    trained.values["model"] |= {"arch": arch, "name": arch, "pool": pool}
    trained.values["dataset"] |= dataset or {}
    trained.choices["model"] = arch
    record = {"command": "train", "identity": {"data.train": split_of(trained).fingerprint()}} | record
    content = checkpoint.pack(trained, "model", model or network(arch=arch, pool=pool), classes, **record)
    write_checkpoint(Path(f"checkpoints/{name}.ckpt"), content)
    return Path(f"checkpoints/{name}.ckpt")


def save_aligned(
    name: str, *, teacher: nn.Module | None = None, projection: int = 64, seed: int = 0,
    dataset: Mapping[str, Any] | None = None, **record: Any,
) -> Path:  # fmt: skip
    """checkpoints/NAME.ckpt as stage 1 leaves it: resnet8 aligned by l2 to `teacher`, a resnet8 of seed 0."""
    aligned = job("stage=1", "loss=l2")
    aligned.values["student"]["projection"] = projection
    aligned.values["seed"] = seed
    aligned.values["dataset"] |= dataset or {}
    identity = digest((teacher or network()).state_dict())
    record = {
        "command": "mimic",
        "stage": "1",
        "loss": "l2",
        "teacher": {"name": "resnet8", "checkpoint": "checkpoints/its.ckpt", "identity": identity},
        "identity": {"data.train": split_of(aligned).fingerprint()},
    } | record
    student = network(7, projection=projection)
    write_checkpoint(Path(f"checkpoints/{name}.ckpt"), checkpoint.pack(aligned, "student", student, CLASSES, **record))
    return Path(f"checkpoints/{name}.ckpt")
