"""PASCAL VOC in the devkit's layout (Everingham et al. 2010), with its 20 classes or others."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from lshfm.datasets.annotations import (
    BROKEN_ANNOTATION,
    BROKEN_BOX,
    DUPLICATE,
    MISSING_ANNOTATION,
    UNLISTED,
    Annotations,
    Box,
    Fault,
    Grade,
    Object,
    Picture,
    Report,
    repeated,
)
from lshfm.datasets.checks import (
    contents,
    find_root,
    first_five,
    read_bytes,
    read_text,
    require_choice,
    require_file_stem,
    require_plain,
    require_whole,
)
from lshfm.datasets.reader import Reader, clause, own_classes
from lshfm.errors import InputError, nearest, parameter, printable

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person",
    "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip

_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")  # in any case; the first that is there counts
_EDGES = ("xmin", "ymin", "xmax", "ymax")


class VOC(Reader):
    """VOC2007 and its like: labels from the objects in the XML files.

    `root` is the folder VOC<year> itself, VOCdevkit around it, or the folder around that. `classes`: those of VOC
    unless given.
    """

    first_pixel = 1

    def __init__(
        self,
        root: str | Path,
        year: int = 2007,
        unlabelled: str = "error",
        classes: Sequence[str] | None = None,
        exif: bool = False,
    ) -> None:
        require_whole(parameter("year"), year, 0, 9999)
        require_choice(parameter("unlabelled"), unlabelled, ("error", "negative"))
        self.root = find_root(root)
        self.year = year
        self.unlabelled = unlabelled
        self.classes = own_classes(classes) or CLASSES
        self.exif = exif

    def read(self, name: str, report: Report, classes: Sequence[str] | None = None) -> Annotations:  # noqa: ARG002
        """The images that ImageSets/Main/<name>.txt lists, in its order."""
        require_plain("VOC split", name)
        folder = self.folder()
        main, annotations = folder / "ImageSets" / "Main", folder / "Annotations"
        files, path = _Files(folder / "JPEGImages"), self._list(main, name)
        lines = _read_lines(path, report)
        ids = _plain_ids(path, lines or [], report)
        pictures = tuple(_picture(id, files.path(id), annotations / f"{id}.xml", report) for id in ids)
        for fault in _unlisted(main, annotations, files):
            report(fault)
        return Annotations(
            str(path), self.classes or CLASSES, pictures, is_whole=lines is not None and len(ids) == len(lines)
        )

    def names(self) -> list[str]:
        """The lists of images; the devkit's lists of one class, <class>_<split>.txt, are no splits."""
        lists = (self.folder() / "ImageSets" / "Main").glob("*.txt")
        known = set(self.classes or ()) | set(CLASSES)
        return sorted(path.stem for path in lists if path.stem.split("_")[0] not in known)

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

    def _list(self, main: Path, name: str) -> Path:
        path = main / f"{name}.txt"
        if not path.is_file():
            splits = self.names()
            found = first_five(splits) or "none"
            raise InputError(f"No split '{name}' in {main}: it has {found}{nearest(name, splits)}")
        return path


class _Files:
    """The pictures' files by their names without endings."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.endings: dict[str, list[str]] = {}
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.suffix.lower() in _ENDINGS:
                self.endings.setdefault(path.stem, []).append(path.suffix)

    def path(self, id: str) -> Path:
        """An image's file; <id>.jpg where there is none."""
        found = min(self.endings.get(id, [".jpg"]), key=lambda end: (end != ".jpg", _ENDINGS.index(end.lower()), end))
        return self.folder / f"{id}{found}"


def _read_lines(path: Path, report: Report) -> list[str] | None:
    try:
        return [line.strip() for line in read_text(path).splitlines() if line.strip()]
    except InputError as error:
        fault = Fault(BROKEN_ANNOTATION, str(path), clause(error, path))
    report(fault)
    return None


def _plain_ids(path: Path, lines: Sequence[str], report: Report) -> list[str]:
    ids = []
    for id in dict.fromkeys(lines):
        try:
            require_file_stem("image id", id)
        except InputError as error:
            report(Fault(BROKEN_ANNOTATION, str(path), str(error)))
        else:
            ids.append(id)
    for id in repeated(lines):
        report(Fault(DUPLICATE, str(path), f"image id '{printable(id)}' is there several times"))
    return ids


def _picture(id: str, file: Path, annotation: Path, report: Report) -> Picture:
    """A listed picture with what its annotation says."""
    if not os.path.lexists(annotation):
        is_of_a_class = re.search(r"\s-?[01]$", id)
        hint = "; a list with -1, 0 or 1 behind each name is of one class, and no split" if is_of_a_class else ""
        report(Fault(MISSING_ANNOTATION, str(file), f"there is no {annotation}{hint}"))
        return Picture(id, file, str(file), is_read=False)
    try:
        root = parse(annotation)
    except InputError as error:
        report(Fault(BROKEN_ANNOTATION, str(annotation), clause(error, annotation)))
        return Picture(id, file, str(annotation), is_read=False)
    begins = f"{annotation}, object "
    objects = tuple(_objects(root, begins, report))
    return Picture(id, file, str(annotation), objects, _size(root), begins)


def _objects(root: Element, begins: str, report: Report) -> Iterator[Object]:
    for number, element in enumerate(root.iterfind("object"), start=1):
        fields = {child.tag: child for child in reversed(element)}  # the first of a name counts
        difficult = _text(fields, "difficult") or "0"
        if difficult not in ("0", "1"):
            what = f"<difficult> is '{printable(difficult)}', expected 0 or 1"
            report(Fault(BROKEN_ANNOTATION, f"{begins}{number}", what))
        box = _box(fields.get("bndbox"), f"{begins}{number}", report)
        parts = len(element.findall("part"))
        yield Object(_text(fields, "name"), difficult == "1", box=box, number=str(number), parts=parts)


def _text(fields: Mapping[str, Element], name: str) -> str:
    return (fields[name].text or "").strip() if name in fields else ""


def _box(element: Element | None, where: str, report: Report) -> Box | None:
    try:
        if element is None:
            raise ValueError
        left, top, right, bottom = (float(element.findtext(edge, "")) for edge in _EDGES)
    except ValueError:
        report(Fault(BROKEN_BOX, where, "has no <bndbox> of four numbers", Grade.COUNTS))
        return None
    return Box(left - 1, top - 1, right, bottom)  # counted from 1, the last pixel included


def _size(root: Element) -> tuple[int, int] | None:
    sides = [root.findtext(f"size/{side}", "").strip() for side in ("width", "height")]
    return (int(sides[0]), int(sides[1])) if all(re.fullmatch(r"[0-9]{1,9}", side) for side in sides) else None


def _unlisted(main: Path, annotations: Path, files: _Files) -> Iterator[Fault]:
    """Annotations whose picture is nowhere; what any split lists and lacks is that split's missing image."""
    known = set(files.endings)
    alone = sorted(path for path in annotations.glob("*.xml") if path.stem not in known)
    if alone:
        for path in main.glob("*.txt"):
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            known.update(re.sub(r"\s+-?[01]$", "", line.strip()) for line in lines)
    what = f"has no picture in {files.folder.name}"
    yield from (Fault(UNLISTED, str(path), what, Grade.COUNTS) for path in alone if path.stem not in known)


class _NoDoctype(ElementTree.TreeBuilder):
    """Refuses a document type, and with it a file's own entities: no expansion bombs, no outside files."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:  # noqa: ARG002
        raise InputError(f"a document type ({name}) is not allowed in an annotation")


def parse(path: Path) -> Element:
    """An annotation file as XML, without any entities of its own. Raises InputError."""
    data = read_bytes(path)
    try:
        root = ElementTree.fromstring(data, ElementTree.XMLParser(target=_NoDoctype()))
    except ElementTree.ParseError as error:
        raise InputError(f"broken XML: {error}") from error
    except (InputError, LookupError, ValueError) as error:  # the last two: encodings that expat doesn't know
        raise InputError(f"cannot be used: {error}") from error
    if root.tag != "annotation":
        raise InputError(f"no VOC annotation: it starts with <{printable(root.tag)}>, not <annotation>")
    return root
