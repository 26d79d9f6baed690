"""Audits the annotations of each kind of data set (VOC, COCO, manifest, others) as far as they can be read."""

import re
from collections.abc import Iterable
from functools import singledispatch
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from lshfm.datasets import coco, manifest, voc
from lshfm.datasets.audit.faults import (
    BROKEN_ANNOTATION,
    DUPLICATE,
    MISSING_ANNOTATION,
    OUTSIDE,
    UNKNOWN_CLASS,
    UNLABELLED,
    UNLISTED,
    Audit,
    Box,
    Fault,
    repeated,
)
from lshfm.datasets.checks import require_plain
from lshfm.datasets.images import FileImages
from lshfm.errors import InputError, nearest, parameter


@singledispatch
def audit(source: Any, name: str) -> Audit:
    """The audit of a split's annotations, with their faults. Raises InputError where there is no such split.

    A reader without a function of its own below is used as in training, up to its first fault.
    """
    split = source.split(name)
    result = Audit(split.images, [[] for _ in split.ids], [None for _ in split.ids])
    result.expect(split.classes)
    for row in split.labels:
        classes = split.classes
        result.count(_where(classes, row > 0), _where(classes, row == 0))
    return result


def _where(classes: Iterable[str], marks: Iterable[bool]) -> list[str]:
    return [name for name, mark in zip(classes, marks, strict=True) if mark]


@audit.register
def _voc(source: voc.VOC, name: str) -> Audit:
    folder = source.folder()
    main, annotations, pictures = (folder / part for part in ("ImageSets/Main", "Annotations", "JPEGImages"))
    ids = [line.strip() for line in voc.read_list(main, name).splitlines() if line.strip()]
    strange = {id: fault for id in ids if (fault := _strange_id(f"{main / name}.txt", id))}
    unique = [id for id in dict.fromkeys(ids) if id not in strange]
    result = Audit(FileImages(tuple(pictures / f"{id}.jpg" for id in unique)), [], [])
    result.expect(voc.CLASSES)
    result.faults += strange.values()
    result.faults += [Fault(DUPLICATE, f"{main / name}.txt", f"lists {id} several times") for id in repeated(ids)]
    for id in unique:
        path = annotations / f"{id}.xml"
        boxes: list[Box] = []
        size = _read_voc(path, boxes, result) if path.is_file() else None
        if not path.is_file():
            result.faults.append(Fault(MISSING_ANNOTATION, str(pictures / f"{id}.jpg"), f"there is no {path}"))
        result.boxes.append(boxes)
        result.sizes.append(size)
    known = {path.stem for path in pictures.iterdir()} if pictures.is_dir() else set()
    for path in main.glob("*.txt"):  # what any split lists and lacks is that split's missing image
        known.update(path.read_text(encoding="utf-8", errors="replace").split())
    alone = sorted(path for path in annotations.glob("*.xml") if path.stem not in known)
    result.faults += [Fault(UNLISTED, str(path), "has no picture in JPEGImages") for path in alone]
    return result


def _strange_id(where: str, id: str) -> Fault | None:
    try:
        require_plain("image id", id)
    except InputError as error:
        return Fault(BROKEN_ANNOTATION, where, str(error))
    return None


def _read_voc(path: Path, boxes: list[Box], result: Audit) -> tuple[int, int] | None:
    """The annotated (width, height), None if unknown; adds to boxes, and to the audit's faults and counts."""
    try:
        root = voc.parse(path)
    except InputError as error:
        result.faults.append(Fault(BROKEN_ANNOTATION, str(path), str(error)))
        return None
    labels: dict[bool, list[str]] = {True: [], False: []}
    for number, element in enumerate(root.iterfind("object"), start=1):
        label, where = element.findtext("name", "").strip(), f"{path}, object {number}"
        difficult = element.findtext("difficult", "0").strip()
        if difficult not in ("0", "1"):
            result.faults.append(Fault(BROKEN_ANNOTATION, where, f"<difficult> is {difficult!r}, expected 0 or 1"))
        if label in voc.CLASSES:
            labels[difficult == "1"].append(label)
        else:
            result.faults.append(Fault(UNKNOWN_CLASS, where, f"{label!r}{nearest(label, voc.CLASSES)}"))
        _read_box(element, where, boxes, result)
    if not labels[True] + labels[False]:
        result.faults.append(Fault(UNLABELLED, str(path), "names no object of a known class"))
    result.count(labels[False], labels[True])
    sides = [root.findtext(f"size/{side}", "").strip() for side in ("width", "height")]
    return (int(sides[0]), int(sides[1])) if all(re.fullmatch(r"\d{1,9}", side) for side in sides) else None


def _read_box(element: Element, where: str, boxes: list[Box], result: Audit) -> None:
    try:
        edges = [float(element.findtext(f"bndbox/{edge}", "")) for edge in ("xmin", "ymin", "xmax", "ymax")]
    except ValueError:
        result.faults.append(Fault(BROKEN_ANNOTATION, where, "has no <bndbox> of four numbers"))
        return
    left, top, right, bottom = edges  # counted from 1, the last pixel included
    boxes.append(Box(where, left - 1, top - 1, right, bottom))


@audit.register
def _coco(source: coco.COCO, name: str) -> Audit:
    path, folder = source.find(name)
    try:
        data = coco.parse(path)
    except InputError as error:
        return Audit(FileImages(()), [], [], faults=[Fault(BROKEN_ANNOTATION, str(path), str(error))])
    lists: dict[str, list[Any]] = {key: _entries(data, key) for key in coco.FIELDS}
    faults = [fault for key, entries in lists.items() for fault in _malformed(path, key, entries)]
    good = {key: [entry for entry in entries if coco.is_entry(key, entry)] for key, entries in lists.items()}
    classes = {entry["id"]: entry["name"] for entry in good["categories"]}
    objects: dict[int, list[tuple[str, dict[str, Any]]]] = {entry["id"]: [] for entry in good["images"]}
    for entry in good["annotations"]:
        where = f"{path}: annotation {entry['id']}"
        if entry["image_id"] not in objects:
            faults.append(Fault(UNLISTED, where, f"is of image {entry['image_id']}, which is not listed"))
        elif entry["category_id"] not in classes:
            faults.append(Fault(UNKNOWN_CLASS, where, f"category {entry['category_id']}"))
        else:
            objects[entry["image_id"]].append((where, entry))
    images = [entry for entry in good["images"] if source.keep == "all" or objects[entry["id"]]]
    safe = [entry for entry in images if coco.leads_out(entry["file_name"]) is None]
    faults += [
        Fault(BROKEN_ANNOTATION, f"{path}: image {entry['id']}", coco.leads_out(entry["file_name"]) or "")
        for entry in images if entry not in safe
    ]  # fmt: skip
    result = Audit(FileImages(tuple(folder / entry["file_name"] for entry in safe)), [], [], faults=faults)
    result.expect(classes.values())
    names = [entry["file_name"] for entry in good["images"]]
    result.faults += [Fault(DUPLICATE, str(path), f"lists {file} several times") for file in repeated(names)]
    for entry in safe:
        result.count(classes[o["category_id"]] for _, o in objects[entry["id"]])
        result.boxes.append([box for where, o in objects[entry["id"]] if (box := _coco_box(where, o, result))])
        size = (entry.get("width"), entry.get("height"))
        result.sizes.append(size if all(type(side) is int for side in size) else None)
    return result


def _entries(data: dict[str, Any], key: str) -> list[Any]:
    entries = data.get(key)
    return entries if isinstance(entries, list) else []


def _malformed(path: Path, key: str, entries: list[Any]) -> Iterable[Fault]:
    wanted = ", ".join(f"{name} ({kind.__name__})" for name, kind in coco.FIELDS[key].items())
    for number, entry in enumerate(entries):
        if not coco.is_entry(key, entry):
            yield Fault(BROKEN_ANNOTATION, f"{path}: {key}[{number}]", f"needs {wanted}")
    ids = [entry["id"] for entry in entries if coco.is_entry(key, entry)]
    yield from (Fault(DUPLICATE, f"{path}: {key}", f"id {id} is there several times") for id in repeated(ids))
    if not entries:
        yield Fault(BROKEN_ANNOTATION, str(path), f"has no list {key!r} with entries")


def _coco_box(where: str, entry: dict[str, Any], result: Audit) -> Box | None:
    box = entry.get("bbox")
    if box is None:
        return None
    if not isinstance(box, list) or len(box) != 4 or not all(type(edge) in (int, float) for edge in box):
        result.faults.append(Fault(OUTSIDE, where, f"bbox is no list of four numbers: {box!r:.80}"))
        return None
    try:
        left, top, width, height = map(float, box)
    except OverflowError:
        result.faults.append(Fault(OUTSIDE, where, f"bbox holds a number beyond all images: {box!r:.80}"))
        return None
    return Box(where, left, top, left + width, top + height)


@audit.register
def _manifest(source: manifest.Manifest, name: str) -> Audit:
    path = source.find(name)
    entries: list[manifest.Entry] = []
    faults = []
    try:
        entries.extend(manifest.read(path))
    except InputError as error:
        faults.append(Fault(BROKEN_ANNOTATION, str(path), f"cannot be read on from there: {error}"))
    classes: tuple[str, ...] | None = None
    try:
        classes = source.known_classes()
    except InputError as error:
        if name == source.classes_from and not any(str(error) in fault.what for fault in faults):
            faults.append(Fault(UNKNOWN_CLASS, str(source.root), str(error)))
    for key in ("id", "path"):
        values = repeated(getattr(entry, key) for entry in entries)
        faults += [Fault(DUPLICATE, str(path), f"{key} {value!r} is there several times") for value in values]
    result = Audit(FileImages(tuple(source.root / entry.path for entry in entries)), [], [], faults=faults)
    result.expect(classes or ())
    for entry in entries:
        unknown = [label for label in entry.labels + entry.difficult if classes and label not in classes]
        result.faults += [
            Fault(UNKNOWN_CLASS, entry.at, f"{label!r}{nearest(label, classes or ())}") for label in unknown
        ]
        if not entry.labels + entry.difficult and source.unlabelled == "error":
            advice = f"{parameter('unlabelled')}=negative takes it as showing none"
            result.faults.append(Fault(UNLABELLED, entry.at, advice))
        result.count(entry.labels, entry.difficult)
        result.boxes.append([])
        result.sizes.append(None)
    return result
