"""Decodes all pictures of an audit to find broken ones, boxes outside of their image, and equal files."""

import os
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import NamedTuple

from lshfm.datasets.annotations import BROKEN_IMAGE, DUPLICATE, MISSING_IMAGE, NO_AREA, OUTSIDE, WRONG_SIZE, Fault
from lshfm.datasets.audit.sources import Audit
from lshfm.datasets.decode import decode
from lshfm.datasets.images import FileImages
from lshfm.datasets.split import BrokenImage, Images

Report = Callable[[int, int], None]  # done, total

_CHUNK = 16


class Seen(NamedTuple):
    """What decoding one picture gave: its size and digest, or its fault."""

    size: tuple[int, int] | None  # (width, height); None where it is broken or not a file
    digest: str  # of its file, "" where there is none
    kind: str = ""  # of its fault
    why: str = ""


def inspect(audit: Audit, workers: int, report: Report) -> list[Seen]:
    """Decode every picture and add what is wrong to the audit's faults. Reports (done, total)."""
    total = len(audit.images)
    chunks = [range(start, min(start + _CHUNK, total)) for start in range(0, total, _CHUNK)]
    seen: list[Seen] = []
    with closing(decode(audit.images, _look, chunks, workers if workers > 1 and len(chunks) > workers else 0)) as parts:
        for part in parts:
            seen += part
            report(len(seen), total)
    for index, picture in enumerate(seen):
        audit.faults += _faults(audit, index, picture)
    return seen


def same_content(splits: Mapping[str, tuple[Images, list[Seen]]]) -> list[Fault]:
    """Files with equal bytes, within a split and between splits: what is tested on may have been learnt."""
    first: dict[str, str] = {}
    faults = []
    for name, (images, seen) in splits.items():
        for index, picture in enumerate(seen):
            where = f"{name}: {images.where(index)}"
            if picture.digest and first.setdefault(picture.digest, where) != where:
                faults.append(Fault(DUPLICATE, where, f"has the content of {first[picture.digest]}"))
    return faults


def _look(images: Images, chunk: range) -> list[Seen]:
    return [_seen(images, index) for index in chunk]


def _seen(images: Images, index: int) -> Seen:
    if not isinstance(images, FileImages):
        images.pixels(index, 8)
        return Seen(None, "")
    try:
        return Seen(*images.inspect(index))
    except BrokenImage as error:
        is_there = os.path.lexists(images.paths[index])  # False too for a name that no file can have
        slashes = "" if is_there or "\\" not in images.where(index) else ": paths are written with /, not \\"
        return Seen(None, "", BROKEN_IMAGE if is_there else MISSING_IMAGE, f"{error.why}{slashes}")


def _faults(audit: Audit, index: int, picture: Seen) -> list[Fault]:
    where = audit.images.where(index)
    if picture.kind:
        return [Fault(picture.kind, where, picture.why)]
    if picture.size is None or not audit.pictures:
        return []
    found = audit.pictures[index]
    boxes = ((item, item.box.fault(*picture.size)) for item in found.objects if item.box)
    faults = [
        Fault(OUTSIDE if item.box and item.box.has_area else NO_AREA, found.place(item), fault)
        for item, fault in boxes
        if fault
    ]
    if found.size not in (None, picture.size):
        faults.append(Fault(WRONG_SIZE, where, f"is {picture.size}, annotated as {found.size}"))
    return faults
