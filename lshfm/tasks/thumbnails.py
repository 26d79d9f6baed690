"""Small pictures of a data set's images for a report, read through the data set as a run's settings name it."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from lshfm.config.catalogue import dataset_of
from lshfm.config.groups import Dataset
from lshfm.datasets.split import BrokenImage
from lshfm.errors import InputError, LshfmError
from lshfm.tasks.task import Task

T = TypeVar("T")

SIZE = 128  # pixels of a side
QUALITY = 72  # of JPEG


def saved_dataset(settings: Mapping[str, Any], folders: Sequence[Path] = ()) -> Dataset:
    """The data set of a run's config.yaml: its option's own class with the saved values; a file picks no code.

    Raises InputError where the settings do not name one that is known here.
    """
    option, values = (settings.get("options") or {}).get("dataset"), settings.get("dataset")
    if not isinstance(option, str) or not isinstance(values, Mapping):
        raise InputError("the settings name no data set")
    return dataset_of(option, values, folders)


def thumbnails(task: Task, dataset: Dataset, split: str, ids: Sequence[str]) -> tuple[dict[str, str], str | None]:
    """Pictures by id as data:image/jpeg, as far as they can be read; and why some could not."""
    return readable(task, dataset, split, ids, lambda images, row: _encoded(images.pixels(row, SIZE)))


def readable(
    task: Task, dataset: Dataset, split: str, ids: Sequence[str], made: Callable[[Any, int], T]
) -> tuple[dict[str, T], str | None]:
    """What is made of a split's images and a picture's row, by id, as far as it can be read; why some could not."""
    try:
        (found,) = task.read(dataset, [split])
    except (LshfmError, OSError, TypeError, ValueError, KeyError, AttributeError) as error:  # of damaged settings
        return {}, f"the pictures of {dataset.name} cannot be read here: {error}"
    rows = {id_: row for row, id_ in enumerate(found.ids)}
    pictures: dict[str, T] = {}
    why = None
    for id_ in ids:
        if id_ not in rows:
            why = f"{dataset.name} {split} has no image {id_} here"
            continue
        try:
            pictures[id_] = made(found.images, rows[id_])
        except BrokenImage as error:
            why = str(error)
    return pictures, why


def _encoded(pixels: Any) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
