"""Data sets in COCO's format (Lin et al. 2014): instance annotations in one JSON file a split."""

import glob
import re
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from lshfm.datasets.annotations import (
    BROKEN_ANNOTATION,
    OTHER_CLASSES,
    UNKNOWN_CLASS,
    Annotations,
    Fault,
    Grade,
    Object,
    Picture,
    Report,
)
from lshfm.datasets.checks import contents, find_root, require_choice, require_plain, require_text
from lshfm.datasets.coco_file import CocoFile, ascending, parse
from lshfm.datasets.reader import Reader, class_difference, clause, own_classes
from lshfm.errors import InputError, nearest, parameter, printable

ANNOTATIONS, IMAGES = "annotations/instances_{split}.json", "{split}"
# Annotation file and image folder as other tools write them, where COCO's own are not there.
LAYOUTS = (
    (ANNOTATIONS, "images/{split}"),  # CVAT
    (ANNOTATIONS, "images"),
    ("{split}/_annotations.coco.json", "{split}"),  # Roboflow
    ("{split}/result.json", "{split}"),  # Label Studio, an export a split
    ("result.json", "."),  # Label Studio, one export
)


class COCO(Reader):
    """Any COCO-format set. `{split}` in `annotations` and `images`, both under `root`, is the split's name.

    `keep` is "annotated" (only images with at least one annotation, as published) or "all". `classes`: those of the
    file, by ascending category id, unless given.
    """

    def __init__(
        self,
        root: str | Path,
        annotations: str = ANNOTATIONS,
        images: str = IMAGES,
        keep: str = "annotated",
        classes: Sequence[str] | None = None,
        exif: bool = True,
    ) -> None:
        require_choice(parameter("keep"), keep, ("annotated", "all"))
        require_text(parameter("annotations"), annotations)
        require_text(parameter("images"), images)
        self.root = find_root(root)
        self.layouts = [(annotations, images)]
        self.layouts += LAYOUTS if (annotations, images) == (ANNOTATIONS, IMAGES) else ()
        self.keep = keep
        self.empty = (
            "has no image"
            if keep == "all"
            else f"has no image with an annotation; {parameter('keep')}=all takes others"
        )
        self.classes = own_classes(classes)
        self.exif = exif

    def read(self, name: str, report: Report, classes: Sequence[str] | None = None) -> Annotations:
        """Images by ascending image id, which as text is their id; crowds (`iscrowd`) count as present."""
        require_plain("COCO split", name)
        path, folder = self.find(name)
        try:
            data = parse(path)
        except InputError as error:
            report(Fault(BROKEN_ANNOTATION, str(path), clause(error, path)))
            return Annotations(str(path), tuple(classes or ()), (), is_whole=False)
        file = CocoFile(path, data, report)
        own = file.categories()
        known = tuple(self.classes or classes or dict.fromkeys(own.values()))
        listed = file.images(folder)
        objects = file.objects(listed, own)
        _compare(str(path), known, tuple(dict.fromkeys(own.values())), objects, report, is_given=bool(self.classes))
        kept = sorted((id for id in listed if self.keep == "all" or id in objects), key=ascending)
        there = frozenset(known)
        pictures = tuple(_picture(id, folder, listed[id], objects.get(id, ()), there, path) for id in kept)
        ids = {name: id for id, name in own.items()}
        return Annotations(str(path), known, pictures, len(listed) == len(data["images"]), ids)

    def origin(self, name: str) -> tuple[Path, Path]:
        """The annotation file and the image folder."""
        require_plain("COCO split", name)
        return self.find(name)

    def names(self) -> list[str]:
        """The splits whose files are there; none where one file is all of them."""
        found = set()
        for annotations, _ in self.layouts:
            full = str(self.root / annotations)
            before, split, after = (re.escape(part) for part in full.partition("{split}"))
            pattern = re.compile(before + r"(\w[\w.-]*)" + after.replace(r"\{split\}", r"\1"))
            paths = glob.glob(glob.escape(full).replace("{split}", "*")) if split else ()  # noqa: PTH207 - may be absolute
            found |= {match[1] for path in paths if (match := pattern.fullmatch(path))}
        return sorted(found)

    def is_alone(self, train: str, other: str) -> bool:
        """Also where both are one file, as Label Studio exports it."""
        one_file = all("{split}" not in annotations for annotations, _ in self._there(train)[:1])
        return train != other and (self.names() == [train] or (one_file and bool(self._there(train))))

    def find(self, name: str) -> tuple[Path, Path]:
        """The annotation file and the image folder of a split. Raises InputError."""
        for layout in self._there(name):
            return self._paths(layout, name)
        annotations, images = self.layouts[0]
        path, folder = self._paths(self.layouts[0], name)
        missing = folder if path.is_file() else path
        others = f"{parameter('annotations')}=annotations/{{split}}.json {parameter('images')}=images/{{split}}"
        expected = f"Expected: annotations in {annotations}, images in {images}/ (others as {others}). "
        expected += f"{contents(missing.parent)}."
        raise self.missing(name, f"{missing} is not there. {expected}")

    def _there(self, name: str) -> list[tuple[str, str]]:
        """The layouts in which the split's file and folder are there."""
        paths = [(layout, *self._paths(layout, name)) for layout in self.layouts]
        return [layout for layout, path, folder in paths if path.is_file() and folder.is_dir()]

    def _paths(self, layout: tuple[str, str], name: str) -> tuple[Path, Path]:
        path, folder = (self.root / part.replace("{split}", name) for part in layout)
        return path, folder


def _picture(
    id: str, folder: Path, entry: Mapping[str, Any], objects: Sequence[Object], classes: Container[str], path: Path
) -> Picture:
    width, height = entry.get("width"), entry.get("height")
    known = tuple(item for item in objects if item.label in classes)
    return Picture(
        id, folder / entry["file_name"], f"{path}: image {id}", known,
        (width, height) if type(width) is int and type(height) is int else None, f"{path}: annotation ",
    )  # fmt: skip


def _compare(
    path: str, known: tuple[str, ...], own: Sequence[str], objects: Mapping[str, list[Object]], report: Report,
    *, is_given: bool,
) -> None:  # fmt: skip
    """Classes are matched by name: what the file lacks is told, and so is what only it has."""
    extra = [name for name in own if name not in known]
    if set(known) != set(own):
        whose = "the given ones" if is_given else "those of the training split"
        what = f"its categories {class_difference(known, own)}: classes are matched by name with {whose}"
        report(Fault(OTHER_CLASSES, path, what, Grade.WARNS))
    elif known != tuple(own):
        what = "its categories are in another order, by their ids: classes are matched by name"
        report(Fault(OTHER_CLASSES, path, what, Grade.TELLS))
    counts = Counter(item.label for items in objects.values() for item in items) if extra else Counter[str]()
    for name in filter(counts.__getitem__, extra):
        what = (
            f"{counts[name]} annotations are of the unknown class '{printable(name)}'{nearest(name, known)}: "
            f"take them out, or have it among the categories of the training split or in {parameter('classes')}"
        )
        report(Fault(UNKNOWN_CLASS, path, what))
