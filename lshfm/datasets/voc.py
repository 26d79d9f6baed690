"""PASCAL VOC in the devkit's layout (Everingham et al. 2010)."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from lshfm.datasets.checks import (
    contents,
    find_root,
    first_five,
    read_bytes,
    read_text,
    require_plain,
    require_unique,
    require_whole,
)
from lshfm.datasets.images import FileImages
from lshfm.datasets.split import Labels, Split, settle_unlabelled
from lshfm.errors import InputError, nearest, parameter, printable

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person",
    "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


class VOC:
    """VOC2007 and its like: labels from the objects in the XML files.

    `root` is the folder VOC<year> itself, VOCdevkit around it, or the folder around that.
    """

    def __init__(self, root: str | Path, year: int = 2007, unlabelled: str = "error") -> None:
        require_whole(parameter("year"), year, 0, 9999)
        self.root = find_root(root)
        self.year = year
        self.unlabelled = unlabelled

    def split(self, name: str) -> Split:
        """The images that ImageSets/Main/<name>.txt lists, in its order. Raises InputError."""
        require_plain("VOC split", name)
        folder = self.folder()
        ids = _read_ids(folder / "ImageSets" / "Main", name)
        labels = np.stack([_read_labels(folder / "Annotations" / f"{id}.xml") for id in ids])
        images = FileImages(tuple(folder / "JPEGImages" / f"{id}.jpg" for id in ids))
        return settle_unlabelled(Split(name, CLASSES, ids, labels, images), self.unlabelled)

    def folder(self) -> Path:
        """Where the devkit's folders lie. Raises InputError."""
        year = f"VOC{self.year}"
        for folder in (self.root / "VOCdevkit" / year, self.root / year, self.root):
            if (folder / "ImageSets" / "Main").is_dir():
                return folder
        raise InputError(
            f"No {year} at {parameter('root')}={self.root}. Expected there: [VOCdevkit/]{year}/ with "
            "ImageSets/Main/<split>.txt, Annotations/<image>.xml and JPEGImages/<image>.jpg.\n"
            f"{contents(self.root)}."
        )


def read_list(main: Path, name: str) -> str:
    """The text of the list of a split's images. Raises InputError."""
    path = main / f"{name}.txt"
    if not path.is_file():
        # The devkit's lists of one class, <class>_<split>.txt, are no splits.
        splits = sorted(p.stem for p in main.glob("*.txt") if p.stem.split("_")[0] not in CLASSES)
        found = first_five(splits) or "none"
        raise InputError(f"No split '{name}' in {main}: it has {found}{nearest(name, splits)}")
    return read_text(path)


def _read_ids(main: Path, name: str) -> tuple[str, ...]:
    path = main / f"{name}.txt"
    ids = tuple(line.strip() for line in read_list(main, name).splitlines() if line.strip())
    if not ids:
        raise InputError(f"{path} lists no image")
    for id in ids:
        require_plain(f"{path}: image id", id)
    require_unique(f"{path}: image id", ids)
    return ids


def _read_labels(path: Path) -> Labels:
    """int8 (20,): +1 for an object that isn't difficult, 0 for difficult ones only, -1 for none."""
    labels = np.full(len(CLASSES), -1, np.int8)
    for name, difficult in _read_objects(path):
        if name not in CLASSES:
            shown = printable(name)
            raise InputError(f"{path}: unknown class '{shown}'{nearest(shown, CLASSES)}")
        column = CLASSES.index(name)
        labels[column] = max(labels[column], 0 if difficult else 1)
    return labels


def _read_objects(path: Path) -> list[tuple[str, bool]]:
    """Class name and difficulty of each annotated object."""
    root = parse(path)
    if root.tag != "annotation":
        raise InputError(f"{path} is no VOC annotation: it starts with <{printable(root.tag)}>, not <annotation>")
    objects = []
    for element in root.iterfind("object"):
        difficult = element.findtext("difficult", "0").strip()
        if difficult not in ("0", "1"):
            raise InputError(f"{path}: <difficult> is '{printable(difficult)}', expected 0 or 1")
        objects.append((element.findtext("name", "").strip(), difficult == "1"))
    return objects


class _NoDoctype(ElementTree.TreeBuilder):
    """Refuses a document type, and with it a file's own entities: no expansion bombs, no outside files."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:  # noqa: ARG002
        raise InputError(f"a document type ({name}) is not allowed in an annotation")


def parse(path: Path) -> ElementTree.Element:
    """An annotation file as XML, without any entities of its own. Raises InputError."""
    data = read_bytes(path)
    try:
        return ElementTree.fromstring(data, ElementTree.XMLParser(target=_NoDoctype()))
    except ElementTree.ParseError as error:
        raise InputError(f"Annotation {path} is broken XML: {error}") from error
    except (InputError, LookupError, ValueError) as error:  # the last two: encodings that expat doesn't know
        raise InputError(f"Annotation {path} cannot be used: {error}") from error
