"""Detections in the formats of other tools: COCO's results, and the PASCAL VOC devkit's files of a class."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lshfm.datasets.boxes import CocoId, coco_id
from lshfm.errors import SURROGATE, InputError, printable
from lshfm.files.names import distinct, plain
from lshfm.files.write import write_text
from lshfm.tasks.detection.evaluation import NOTHING
from lshfm.tasks.task import Arrays

COCO_FILE, DEVKIT = "detections.json", "devkit"


class Detection(NamedTuple):
    """One object that was found."""

    image: str  # its id
    label: int  # its class, from 0
    score: float
    box: tuple[float, float, float, float]  # left, top, right, bottom, in pixels, half open


def detections_of(arrays: Arrays) -> Iterator[Detection]:
    """Those of an evaluation's arrays, image by image."""
    for image, place in zip(*np.nonzero(arrays["scores"] > NOTHING), strict=True):
        left, top, right, bottom = map(float, arrays["boxes"][image, place])
        label, score = int(arrays["labels"][image, place]), float(arrays["scores"][image, place])
        yield Detection(str(arrays["ids"][image]), label, score, (left, top, right, bottom))


def coco_results(
    found: Iterable[Detection], classes: Sequence[str], category_ids: Sequence[CocoId] = ()
) -> list[dict[str, Any]]:
    """Detections in COCO's result format. category_ids: of the classes; without them they count from 1."""
    ids = category_ids or range(1, len(classes) + 1)
    return [
        {
            "image_id": coco_id(each.image), "category_id": ids[each.label], "category": classes[each.label],
            "bbox": [each.box[0], each.box[1], each.box[2] - each.box[0], each.box[3] - each.box[1]],
            "score": each.score,
        } for each in found
    ]  # fmt: skip


def write_coco(folder: Path, found: Iterable[Detection], classes: Sequence[str], ids: Sequence[CocoId] = ()) -> None:
    """Write detections.json."""
    write_text(folder / COCO_FILE, json.dumps(coco_results(found, classes, ids)))


def require_devkit_ids(ids: Iterable[str], instead: str) -> None:
    """InputError for an image id that the devkit's files cannot hold. instead: the setting that leaves them out."""
    for id_ in ids:
        if len(id_.split()) != 1 or SURROGATE.search(id_):
            raise InputError(f"{printable(id_)!r}: no id with blanks has a place in the VOC devkit's files; {instead}")


def write_devkit(folder: Path, found: Iterable[Detection], classes: Sequence[str], split: str, *, comp: str) -> None:
    """Write devkit/COMP_det_SPLIT_CLASS.txt for each class. comp: comp3 of networks that saw no other images."""
    of_class: dict[int, list[Detection]] = {}
    for each in found:
        of_class.setdefault(each.label, []).append(each)
    for number, label in enumerate(distinct(classes)):
        path = folder / DEVKIT / f"{comp}_det_{plain(split)}_{label}.txt"
        write_text(path, "".join(map(_devkit_line, of_class.get(number, ()))))


def _devkit_line(each: Detection) -> str:
    """Image, score and box, counted from pixel 1, the last one included."""
    left, top, right, bottom = each.box
    return f"{each.image} {each.score:.6f} {left + 1:.6f} {top + 1:.6f} {right:.6f} {bottom:.6f}\n"
