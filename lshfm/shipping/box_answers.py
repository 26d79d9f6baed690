"""Detections as predict shows and writes them: on the console, drawn, as JSON lines, for COCO and for the devkit."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lshfm.console import logger
from lshfm.datasets.boxes import CocoId
from lshfm.datasets.coco_file import names_of_images
from lshfm.errors import count, printable
from lshfm.shipping.answers import Answers, Entry, cell, comma_separated, path_cell, short
from lshfm.shipping.drawing import LARGEST, boxed
from lshfm.tasks.detection.files import Detection, require_devkit_ids, write_coco, write_devkit

SPLIT = "test"  # in the names of the devkit's files, which looks for it there
DIGITS = 2  # of a box in predictions.jsonl and .csv
LISTED = 20  # objects of a picture on the console


class DetectedObject(NamedTuple):
    """An object that was found in a picture."""

    label: str
    score: float
    box: tuple[float, float, float, float]  # left, top, right, bottom, in the picture's pixels, half open


@dataclass(frozen=True, eq=False)
class Detections:
    """What a detector finds in one picture."""

    source: str | None  # the file's path; None for a picture that came without one
    objects: list[DetectedObject] = field(default_factory=list)  # those predicted, best first
    size: tuple[int, int] = (0, 0)  # of the picture: width, height
    boxes: NDArray[np.float32] | None = None  # (k, 4), of all that the network gives, whatever their score
    scores: NDArray[np.float32] | None = None  # (k,)
    labels: NDArray[np.int64] | None = None  # (k,), places in the network's classes
    error: str | None = None  # why the picture could not be read; nothing else is there then


class BoxAnswers(Answers):
    """Boxes with classes and scores.

    category_ids: of the classes; none: counted from 1. coco_ids: a file in COCO's format, whose ids of pictures
    detections.json takes. devkit: whether the devkit's files are written, too.
    """

    def __init__(
        self, classes: Sequence[str], category_ids: Sequence[CocoId], *, coco_ids: Path | None, devkit: bool,
        saw_only_its_data: bool,
    ) -> None:  # fmt: skip
        self.classes, self.category_ids, self.devkit = classes, category_ids, devkit
        self.known = names_of_images(coco_ids) if coco_ids else None
        self.comp = "comp3" if saw_only_its_data else "comp4"

    def words(self, record: Detections) -> str:
        """Each object with its score and its box in whole pixels."""
        shown, more = record.objects[:LISTED], len(record.objects) - LISTED
        words = [f"{printable(each.label)} {each.score:.3f} ({_whole(each.box)})" for each in shown]
        words += [f"and {more} more (format=csv writes them all)"] if more > 0 else []
        return ", ".join(words) or "no object passes the threshold"

    def found(self, record: Detections) -> Entry:
        """The predicted objects, and all that was found, which files of other formats take."""
        assert record.boxes is not None
        assert record.labels is not None
        objects = [
            {"label": name, "score": round(score, 6), "box": [round(edge, DIGITS) for edge in box]}
            for name, score, box in record.objects
        ]
        everything = {"labels": record.labels.tolist(), "scores": short(record.scores)}
        boxes = [short(box) for box in record.boxes]
        return {"size": list(record.size), "objects": objects, "found": everything | {"boxes": boxes}}

    def shown(self, entry: Entry) -> Entry:
        """Without what is for other files."""
        return {name: value for name, value in entry.items() if name != "found"}

    def drawn(self, picture: Image.Image, entry: Entry, most: int = LARGEST) -> Image.Image:
        """The boxes, each with its class and score, a colour a class."""
        number = {name: place for place, name in enumerate(self.classes)}
        boxes = [(each["box"], number[each["label"]], f"{printable(each['label'])[:40]} {each['score']:.2f}")
                 for each in entry["objects"]]  # fmt: skip
        return boxed(picture, boxes, most)

    def table(self, entries: Sequence[Entry]) -> str:
        """A row an object, best first; one without a label for a picture in which nothing was found."""
        head = ["path", "label", "score", "xmin", "ymin", "xmax", "ymax", "error"]
        return comma_separated([head, *(row for entry in entries for row in _rows(entry))])

    def check(self, paths: Sequence[str]) -> None:
        """InputError for pictures whose names the devkit's files cannot hold."""
        if self.devkit:
            require_devkit_ids(ids_of(paths).values(), "leave devkit=true out, or name the pictures in another way")

    def write_beside(self, folder: Path, entries: Sequence[Entry]) -> None:
        """Write detections.json, and the devkit's files where they are asked for."""
        entries = list({entry["path"]: entry for entry in entries}.values())  # a list may name a picture twice
        ids = ids_of([entry["path"] for entry in entries])
        write_coco(folder, _detections(entries, ids | self._known(ids)), self.classes, self.category_ids)
        if self.devkit:
            write_devkit(folder, _detections(entries, ids), self.classes, SPLIT, comp=self.comp)

    def _known(self, ids: dict[str, str]) -> dict[str, str]:
        """The ids of pictures by the file that names them."""
        if self.known is None:
            return {}
        known = {path: self.known[name] for path in ids if (name := PurePath(path).name) in self.known}
        if others := [path for path in ids if path not in known]:
            logger.warning(
                "coco_ids= has no id for %s: they go by their names; the first is %s",
                count(len(others), "picture"), printable(others[0]),
            )  # fmt: skip
        return known


def ids_of(paths: Sequence[str]) -> dict[str, str]:
    """Pictures' names without endings, where no two are called so; else their paths."""
    stems = Counter(PurePath(path).stem for path in dict.fromkeys(paths))
    return {path: PurePath(path).stem if stems[PurePath(path).stem] == 1 else path for path in paths}


def _detections(entries: Sequence[Entry], ids: dict[str, str]) -> Iterator[Detection]:
    for entry in entries:
        found: dict[str, Any] = entry.get("found", {"labels": [], "scores": [], "boxes": []})
        for label, score, box in zip(found["labels"], found["scores"], found["boxes"], strict=True):
            left, top, right, bottom, exact = np.array(
                [*box, score], np.float32
            ).tolist()  # as an evaluation writes them
            yield Detection(ids[entry["path"]], label, exact, (left, top, right, bottom))


def _rows(entry: Entry) -> Iterator[list[Any]]:
    path, error = path_cell(entry["path"]), cell(entry.get("error", ""))
    for each in entry.get("objects", ()):
        yield [path, cell(each["label"]), f"{each['score']:.4f}", *each["box"], error]
    if not entry.get("objects"):
        yield [path, *[""] * 6, error]


def _whole(box: Sequence[float]) -> str:
    left, top, right, bottom = (round(edge) for edge in box)
    return f"{left},{top} {right},{bottom}"
