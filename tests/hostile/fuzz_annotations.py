"""A coverage-guided fuzz target for the annotation readers: `python tests/hostile/fuzz_annotations.py CORPUS`.

An input's first byte picks the format; the others are the file, which training's reader and `lshfm check` both read.
Options are libFuzzer's, such as -max_total_time=60.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["lshfm.datasets", "lshfm.errors"]):
    from lshfm.datasets.annotations import UNLABELLED, Grade
    from lshfm.datasets.audit.sources import Audit, audit
    from lshfm.datasets.coco import COCO
    from lshfm.datasets.manifest import Manifest
    from lshfm.datasets.split import Split
    from lshfm.datasets.voc import VOC
    from lshfm.errors import InputError

ANNOTATION = "<annotation><object><name>cat</name></object></annotation>"
# For each format: the file that is written, relative to the root, and the data set that is there.
FORMATS: list[tuple[str, Callable[[Path], Any], str]] = [
    ("voc/Annotations/a.xml", lambda root: VOC(root / "voc"), "val"),
    ("coco/annotations/instances_val.json", lambda root: COCO(root / "coco"), "val"),
    ("csv/train.csv", lambda root: Manifest(root / "csv"), "train"),
    ("jsonl/train.jsonl", lambda root: Manifest(root / "jsonl", unlabelled="negative"), "train"),
    ("list/ImageSets/Main/val.txt", lambda root: VOC(root / "list", unlabelled="negative"), "val"),
]


def lay_out(root: Path) -> None:
    """All that is not fuzzed of each data set."""
    for folder in ("voc", "list"):
        for part in ("ImageSets/Main", "Annotations", "JPEGImages"):
            (root / folder / part).mkdir(parents=True)
        (root / folder / "Annotations/a.xml").write_text(ANNOTATION)
    (root / "voc/ImageSets/Main/val.txt").write_text("a\n")
    for folder in ("coco/annotations", "coco/val", "csv", "jsonl"):
        (root / folder).mkdir(parents=True)


def read_both(root: Path, data: bytes) -> None:
    """Anything but a Split, an Audit or InputError is a finding."""
    file, source, name = FORMATS[data[0] % len(FORMATS)] if data else FORMATS[0]
    (root / file).write_bytes(data[1:])
    is_read = False
    with contextlib.suppress(InputError):
        split = source(root).split(name)
        is_read = True
        assert isinstance(split, Split)
        assert len(split) > 0
        assert split.fingerprint()
        assert split.images.signature()
    with contextlib.suppress(InputError):
        found = audit(source(root), name)
        assert isinstance(found, Audit)
        refused = any(fault.grade is Grade.STOPS or fault.kind == UNLABELLED for fault in found.faults)
        assert refused != is_read
        assert len(found.images) == len(found.pictures)
        "".join(f"{fault.kind} {fault.where} {fault.what}" for fault in found.faults).encode()
        for picture in found.pictures:
            for item in picture.objects:
                assert picture.place(item)
                if item.box:
                    item.box.fault(10, 10)


def fuzz(root: Path) -> None:
    """Does not return: libFuzzer ends the process."""
    lay_out(root)
    atheris.Setup(sys.argv, lambda data: read_both(root, data))
    atheris.Fuzz()


def main() -> int:
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        child = os.fork()  # so that someone is left to clean up
        if not child:
            fuzz(Path(folder))
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    sys.exit(main())
