"""The JSON file of a split in COCO's format: its lists, entry by entry, and what is wrong with each."""

import math
import re
from collections.abc import Container, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from lshfm.datasets.annotations import (
    BROKEN_ANNOTATION,
    BROKEN_BOX,
    DUPLICATE,
    FILE_NAME,
    UNKNOWN_CLASS,
    UNLISTED,
    Box,
    Fault,
    Grade,
    Object,
    Report,
    repeated,
)
from lshfm.datasets.checks import read_text, require_class_name, require_path
from lshfm.errors import SURROGATE, InputError, parameter, printable
from lshfm.files.parse import parse_json

LISTS = ("categories", "images", "annotations")
_LONGEST_ID = 1000
_NUMBERS = {int, float}
_ADDRESS = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+:/|^data:|\?\w+=")
_MEND = r"sed -i 's|\\\\|/|g'"  # JSON writes two for each backslash
_DRIVE = re.compile(r"[A-Za-z]:[/\\]")


def ascending(id: str) -> tuple[bool, int, str]:
    """Whole numbers first, by value; other ids by their text."""
    is_number = bool(re.fullmatch(r"-?[0-9]+", id))
    return (not is_number, int(id) if is_number else 0, id)


def parse(path: Path) -> dict[str, Any]:
    """The file as JSON with the lists of the format, whatever is in them. Raises InputError."""
    try:
        data = parse_json(read_text(path))
    except ValueError as error:
        raise InputError(f"broken JSON: {error}") from error
    if not isinstance(data, dict):
        raise InputError(f"not in COCO's format: expected an object with {', '.join(LISTS)}")
    for key in LISTS:
        if not isinstance(data.get(key), list):
            raise InputError(f"expected a list '{key}'")
    return data


def names_of_images(path: Path) -> dict[str, str]:
    """The ids of a file's images by their files' names, without folders. Raises InputError for no such file."""
    try:
        images = parse_json(read_text(path))["images"]
        ids = {PurePath(each["file_name"]).name: _id(each["id"]) for each in images}
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(f"{path}: not in COCO's format: 'images', each with 'id' and 'file_name'") from error
    return {name: id for name, id in ids.items() if id is not None}


class CocoFile:
    """A parsed file's lists, entry by entry; those with faults are reported and left out."""

    def __init__(self, path: Path, data: dict[str, Any], report: Report) -> None:
        self.path, self.data, self.report = path, data, report
        self.ids: dict[str, set[str]] = {"categories": set(), "images": set()}  # those of entries with faults too

    def categories(self) -> dict[str, str]:
        """The names of classes by id, in the ids' order."""
        names = {}
        for where, id, entry in self._entries("categories"):
            try:
                names[id] = _class_name(entry)
            except InputError as error:
                self.report(Fault(BROKEN_ANNOTATION, where, str(error)))
        supers = {id: entry.get("supercategory") for id, entry in self._plain_entries("categories")}
        for name in repeated(names.values()):
            same = [supers[id] for id in names if names[id] == name]
            if sorted(map(str, same)) != sorted([name, "none"]):  # Roboflow's project, called as its only class
                what = f"category name '{printable(name)}' is there twice"
                self.report(Fault(DUPLICATE, str(self.path), what))
        return {id: names[id] for id in sorted(names, key=ascending)}

    def images(self, folder: Path) -> dict[str, dict[str, Any]]:
        """The images' entries by id."""
        images = {}
        for where, id, entry in self._entries("images"):
            if not isinstance(entry.get("file_name"), str):
                self.report(Fault(BROKEN_ANNOTATION, where, "needs 'file_name', a text"))
            elif fault := _name_fault(entry["file_name"], folder):
                self.report(Fault(FILE_NAME, where, fault))
            else:
                images[id] = entry
        return images

    def objects(self, images: Container[str], names: Mapping[str, str]) -> dict[str, list[Object]]:
        """The annotated objects of each image that has any."""
        objects: dict[str, list[Object]] = {}
        for number, entry in enumerate(self.data["annotations"]):
            fields = entry if isinstance(entry, dict) else {}
            image, category = _id(fields.get("image_id")), _id(fields.get("category_id"))
            if image is None or category is None:
                needed = "image_id" if image is None else "category_id"
                self._fault(BROKEN_ANNOTATION, number, f"needs '{needed}', a whole number or a text")
            elif image not in self.ids["images"]:
                self._fault(UNLISTED, number, f"has the unknown image_id {printable(image)}")
            elif category not in self.ids["categories"]:
                self._fault(UNKNOWN_CLASS, number, f"has the unknown category_id {printable(category)}")
            elif image in images and category in names:
                objects.setdefault(image, []).append(self._object(fields, names[category], number))
        numbers = (item.number for items in objects.values() for item in items)
        for id in repeated(number for number in numbers if number[0] != "["):
            what = f"id {printable(id)} is there several times"
            self.report(Fault(DUPLICATE, f"{self.path}: annotations", what, Grade.COUNTS))
        return objects

    def _object(self, entry: dict[str, Any], label: str, place: int) -> Object:
        number = _id(entry.get("id")) or f"[{place}]"
        try:
            box, is_crowd = _box(entry.get("bbox")), _is_crowd(entry.get("iscrowd"))
        except InputError as error:
            where = f"{self.path}: annotation {number}"
            self.report(Fault(BROKEN_BOX, where, str(error), Grade.COUNTS))
            box, is_crowd = None, False
        return Object(label, crowd=is_crowd, box=box, number=number, area=_area(entry.get("area")))

    def _entries(self, key: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """The list's entries that have an id of their own: where each stands, its id, the entry."""
        seen = self.ids[key]
        for number, entry in enumerate(self.data[key]):
            id = _id(entry.get("id")) if isinstance(entry, dict) else None
            where = f"{self.path}: {key}[{number}]"
            if id is None:
                self.report(Fault(BROKEN_ANNOTATION, where, "needs 'id', a whole number or a text"))
            elif id in seen:
                self.report(Fault(DUPLICATE, where, f"repeats id {printable(id)}"))
            else:
                seen.add(id)
                yield where, id, entry

    def _plain_entries(self, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
        entries = ((_id(entry.get("id")), entry) for entry in self.data[key] if isinstance(entry, dict))
        return ((id, entry) for id, entry in entries if id is not None)

    def _fault(self, kind: str, number: int, what: str) -> None:
        self.report(Fault(kind, f"{self.path}: annotations[{number}]", what))


def _id(value: object) -> str | None:
    """An id as text, the same for 7 and "7"; None for what can be none."""
    if type(value) is int:
        return str(value)
    if not isinstance(value, str) or not value.strip() or len(value) > _LONGEST_ID or SURROGATE.search(value):
        return None
    return value


def _class_name(entry: dict[str, Any]) -> str:
    name = entry.get("name")
    if not isinstance(name, str):
        raise InputError("needs 'name', a text")
    require_class_name("name", name)
    return name


def _name_fault(name: str, folder: Path) -> str | None:
    """Why a picture's name is none inside the folder of pictures, and what to write instead."""
    try:
        require_path("file_name", name)
    except InputError as error:
        return str(error)
    shown = f"file_name {name!r}"
    if _ADDRESS.search(name):
        return f"{shown} is an address, and nothing is fetched: put the picture into {folder} and write its name there"
    if "\\" in name and not (folder / name).is_file():
        return f"{shown} has backslashes, as Windows writes paths: write / for them ({_MEND} on the file)"
    path = PurePath(name)
    if path.is_absolute() or _DRIVE.match(name) or ".." in path.parts or not path.parts:
        return f"{shown} is outside its folder: write it as it lies under {folder}, or set {parameter('images')}"
    return None


def _is_crowd(value: Any) -> bool:
    """Whether an object is a crowd. Raises InputError where that is open."""
    if value not in (None, 0, 1):
        raise InputError(f"'iscrowd' is {value!r:.80}, expected 0 or 1")
    return bool(value == 1)


def _area(value: object) -> float | None:
    """Pixels of a mask; None for what is no area, which only tells small objects from large ones."""
    try:
        return float(value) if type(value) in _NUMBERS and 0 < value < math.inf else None  # type: ignore[operator, arg-type]
    except OverflowError:
        return None


def _box(box: object) -> Box | None:
    if box is None or box == []:
        return None
    if not isinstance(box, list) or len(box) != 4 or not _NUMBERS.issuperset(map(type, box)):
        raise InputError(f"bbox is no list of four numbers: {box!r:.80}")
    try:
        left, top, width, height = map(float, box)
    except OverflowError as error:
        raise InputError(f"bbox holds a number beyond all images: {box!r:.80}") from error
    return Box(left, top, left + width, top + height)
