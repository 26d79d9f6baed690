"""Data sets in COCO's format (Lin et al. 2014): instance annotations in one JSON file a split."""

import contextlib
import io
import json
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from pycocotools.coco import COCO as Index

from lshfm.datasets.checks import (
    contents,
    find_root,
    read_text,
    require_choice,
    require_class_name,
    require_path,
    require_plain,
    require_text,
    require_unique,
)
from lshfm.datasets.images import FileImages
from lshfm.datasets.split import Labels, Split
from lshfm.errors import InputError, parameter

# What is read of each list's entries, with the type it must have.
FIELDS: dict[str, dict[str, type]] = {
    "categories": {"id": int, "name": str},
    "images": {"id": int, "file_name": str},
    "annotations": {"id": int, "image_id": int, "category_id": int},
}


class COCO:
    """Any COCO-format set. `{split}` in `annotations` and `images`, both under `root`, is the split's name.

    `keep` is "annotated" (only images with at least one annotation, as published) or "all".
    """

    def __init__(
        self,
        root: str | Path,
        annotations: str = "annotations/instances_{split}.json",
        images: str = "{split}",
        keep: str = "annotated",
    ) -> None:
        require_choice(parameter("keep"), keep, ("annotated", "all"))
        require_text(parameter("annotations"), annotations)
        require_text(parameter("images"), images)
        self.root = find_root(root)
        self.annotations = annotations
        self.images = images
        self.keep = keep

    def split(self, name: str) -> Split:
        """Images by ascending image id, which as text is their id; classes by category id. Raises InputError.

        Labels are +1 or -1; crowds (`iscrowd`) count as present.
        """
        require_plain("COCO split", name)
        path, folder = self.find(name)
        index = _index(_read(path))
        ids = [id for id in sorted(index.imgs) if self.keep == "all" or id in index.imgToAnns]
        if not ids:
            raise InputError(f"{path} has no image" + " with an annotation" * (self.keep == "annotated"))
        categories = sorted(index.cats)
        classes = tuple(index.cats[id]["name"] for id in categories)
        images = FileImages(tuple(folder / index.imgs[id]["file_name"] for id in ids))
        return Split(name, classes, tuple(map(str, ids)), _labels(index, ids, categories), images)

    def find(self, name: str) -> tuple[Path, Path]:
        """The annotation file and the image folder of a split."""
        path = self.root / self.annotations.replace("{split}", name)
        folder = self.root / self.images.replace("{split}", name)
        if path.is_file() and folder.is_dir():
            return path, folder
        missing = folder if path.is_file() else path
        raise InputError(
            f"No split '{name}' at {parameter('root')}={self.root}: {missing} is not there. "
            f"Expected: annotations in {self.annotations}, images in {self.images}/.\n"
            f"{contents(self.root)}. {contents(missing.parent)}."
        )


def _labels(index: Index, ids: list[int], categories: list[int]) -> Labels:
    labels = np.full((len(ids), len(categories)), -1, np.int8)
    column = {category: i for i, category in enumerate(categories)}
    for row, id in enumerate(ids):
        # imgToAnns is a defaultdict: asking it for an image without annotations would add the image.
        for annotation in index.imgToAnns.get(id, ()):
            labels[row, column[annotation["category_id"]]] = 1
    return labels


def _index(data: dict[str, Any]) -> Index:
    index = Index()
    index.dataset = data
    with contextlib.redirect_stdout(io.StringIO()):
        index.createIndex()
    return index


def parse(path: Path) -> dict[str, Any]:
    """The file as JSON, whatever is in it. Raises InputError."""
    try:
        data = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is broken JSON: {error}") from error
    if not isinstance(data, dict):
        raise InputError(f"{path} is not in COCO's format: expected an object with {', '.join(FIELDS)}")
    return data


def _read(path: Path) -> dict[str, Any]:
    """The parsed file, checked in all that is used later. Raises InputError."""
    data = parse(path)
    for key, fields in FIELDS.items():
        _check_entries(path, key, data.get(key), fields)
    for i, entry in enumerate(data["categories"]):
        require_class_name(f"{path}: categories[{i}]: name", entry["name"])
    require_unique(f"{path}: category name", (entry["name"] for entry in data["categories"]))
    _check_references(path, data)
    for i, entry in enumerate(data["images"]):
        require_path(f"{path}: images[{i}]: file_name", entry["file_name"])
        if fault := leads_out(entry["file_name"]):
            raise InputError(f"{path}: image {entry['id']} {fault}")
    return data


def _check_entries(path: Path, key: str, entries: object, fields: dict[str, type]) -> None:
    """InputError unless all entries are objects with these fields, of the right types, and ids of their own."""
    if not isinstance(entries, list):
        raise InputError(f"{path}: expected a list '{key}'")
    seen = set()
    for i, entry in enumerate(entries):
        for field, kind in fields.items():
            if not isinstance(entry, dict) or type(entry.get(field)) is not kind:
                raise InputError(f"{path}: {key}[{i}] needs '{field}' of type {kind.__name__}")
        if entry["id"] in seen:
            raise InputError(f"{path}: {key}[{i}] repeats id {entry['id']}")
        seen.add(entry["id"])


def _check_references(path: Path, data: dict[str, Any]) -> None:
    images = {entry["id"] for entry in data["images"]}
    categories = {entry["id"] for entry in data["categories"]}
    for i, entry in enumerate(data["annotations"]):
        for field, known in (("image_id", images), ("category_id", categories)):
            if entry[field] not in known:
                raise InputError(f"{path}: annotations[{i}] has the unknown {field} {entry[field]}")


def leads_out(file_name: str) -> str | None:
    """What is wrong with a picture's name that is not inside the folder of pictures."""
    name = PurePath(file_name)
    if name.is_absolute() or ".." in name.parts or not name.parts:
        return f"has a file_name outside its folder: {file_name!r}"
    return None


def is_entry(key: str, entry: object) -> bool:
    """Whether an entry of the list `key` has what is read of it, in the right types."""
    return isinstance(entry, dict) and all(type(entry.get(name)) is kind for name, kind in FIELDS[key].items())
