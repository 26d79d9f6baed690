"""What a large annotation file says of a split, kept so that it is parsed once and not at every start."""

import hashlib
import json
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lshfm.datasets.annotations import Fault, Grade
from lshfm.datasets.images import FileImages
from lshfm.datasets.paths import PathsWithin
from lshfm.datasets.reader import Reader, strict
from lshfm.datasets.split import Split
from lshfm.files.parse import parse_json

FORMAT = 1  # of the file, and of what a reader makes of annotations
WORTH_KEEPING = 5_000  # images: fewer are read in a moment


def read_split(source: Any, name: str, classes: Sequence[str] | None, folder: Path | None) -> Split:
    """As `source.split`, for a Reader from a file in `folder` where the annotations are those that it was made of.

    folder: None for a data set of which nothing is kept. What is told as a warning is told at every start: such a split
    is not kept. Pictures are as they are now, whenever the annotations were read.
    """
    if not isinstance(source, Reader):
        own: Split = source.split(name)
        return own
    origin = source.origin(name) if folder else None
    if folder is None or origin is None:
        return source.split(name, classes)
    annotations, pictures = origin
    key = _key(source, name, classes, annotations, pictures)
    path = folder / "indexes" / f"{name}_{_digest(str(annotations.absolute()))[:16]}.npz"
    if split := _kept(path, key, name, source, pictures):
        return split
    warnings: list[Fault] = []

    def report(fault: Fault) -> None:
        strict(fault)
        warnings.extend([fault] if fault.grade is Grade.WARNS else [])

    split = source.split(name, classes, report)
    if len(split) >= WORTH_KEEPING and not warnings:
        _keep(path, key, split, pictures)
    return split


def _key(source: Reader, name: str, classes: Sequence[str] | None, annotations: Path, pictures: Path) -> str:
    """Of all that the split depends on: the reader's settings, and the annotation file by its size and time."""
    status = annotations.stat()
    settings = {key: str(value) for key, value in sorted(vars(source).items())}
    values = [FORMAT, type(source).__qualname__, settings, name, list(classes or ()), str(pictures)]
    return _digest(json.dumps([*values, status.st_size, status.st_mtime_ns, status.st_ino]))


def _kept(path: Path, key: str, name: str, source: Reader, pictures: Path) -> Split | None:
    """The split in a file that was made with the key; None where there is none, or none that is whole."""
    if not path.is_file():
        return None
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:  # whose checksums it compares
            about, labels = parse_json(file["about"].tobytes()), file["labels"]
        if about["key"] != key or labels.shape != (len(about["ids"]), len(about["classes"])):
            return None
        images = FileImages(PathsWithin(str(pictures), tuple(about["names"])), upright=source.exif)
        return Split(name, tuple(about["classes"]), tuple(about["ids"]), labels, images)
    except (OSError, ValueError, KeyError, TypeError, AssertionError, EOFError, zipfile.BadZipFile):
        return None


def _keep(path: Path, key: str, split: Split, pictures: Path) -> None:
    """Write the file, as every rank may; a folder that cannot be written to keeps nothing."""
    assert isinstance(split.images, FileImages)
    names = [os.path.relpath(each, pictures) for each in split.images.paths]
    about = {"key": key, "ids": split.ids, "classes": split.classes, "names": names}
    content = {"about": np.frombuffer(json.dumps(about).encode(), np.uint8), "labels": split.labels}
    part = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            np.savez(file, **content)  # type: ignore[arg-type]
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
