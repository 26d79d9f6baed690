"""What a large annotation file says is kept, and read again where the file, the settings or pictures are others."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lshfm.datasets import coco_file, index
from lshfm.datasets.coco import COCO
from lshfm.datasets.images import find_missing
from lshfm.datasets.index import read_split
from lshfm.datasets.split import Split

NUM = 6


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(index, "WORTH_KEEPING", 3)
    folder = tmp_path / "set"
    (folder / "train").mkdir(parents=True)
    for number in range(NUM):
        Image.new("RGB", (4, 4)).save(folder / f"train/{number}.jpg")
    annotate(folder)
    return folder


def annotate(root: Path, category: int = 1, supercategory: str = "x") -> None:
    names = [{"id": c, "name": f"class{c}", "supercategory": supercategory} for c in (1, 2)]
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 4, "height": 4} for n in range(NUM)]
    objects = [{"id": n, "image_id": n, "category_id": category, "bbox": [0, 0, 2, 2]} for n in range(NUM)]
    (root / "annotations").mkdir(exist_ok=True)
    file = root / "annotations/instances_train.json"
    file.write_text(json.dumps({"categories": names, "images": images, "annotations": objects}))


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The annotation files that were parsed."""
    paths: list[Path] = []
    parse = coco_file.parse

    def noting(path: Path) -> Any:
        paths.append(path)
        return parse(path)

    monkeypatch.setattr("lshfm.datasets.coco.parse", noting)
    return paths


def read(root: Path, folder: Path | None = None, **settings: Any) -> Split:
    return read_split(COCO(root, **settings), "train", None, folder or root.parent / "cache")


def test_a_second_start_does_not_parse_and_gives_the_same_split(root: Path, parsed: list[Path]) -> None:
    first, second = read(root), read(root)
    assert len(parsed) == 1
    assert (first.name, first.classes, first.ids, first.images) == (
        second.name, second.classes, second.ids, second.images
    )  # fmt: skip
    assert np.array_equal(first.labels, second.labels)
    assert first.labels.dtype == second.labels.dtype
    assert first.fingerprint() == second.fingerprint()
    assert first.images.signature() == second.images.signature()


def test_changed_annotations_and_settings_are_read_anew(root: Path, parsed: list[Path]) -> None:
    read(root)
    annotate(root, category=2)
    assert read(root).labels[0].tolist() == [-1, 1]
    assert read(root, classes=["class2"]).labels.tolist() == [[1]] * NUM
    assert read(root, exif=False).images.upright is False  # type: ignore[attr-defined]
    assert len(parsed) == 4


def test_pictures_are_those_of_now(root: Path) -> None:
    """One that is written over in place, which its folder's time does not show, is another all the same."""
    before = read(root)
    signature, fingerprint, times = before.images.signature(), before.fingerprint(), (root / "train").stat()
    Image.effect_noise((90, 90), 50).save(root / "train/3.jpg")
    os.utime(root / "train", ns=(times.st_atime_ns, times.st_mtime_ns))
    after = read(root)
    assert after.images.signature() != signature
    assert after.fingerprint() != fingerprint
    (root / "train/2.jpg").unlink()
    assert find_missing(read(root)) == [2]


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 no archive", None])
def test_a_damaged_file_is_made_anew(root: Path, parsed: list[Path], damage: bytes | None) -> None:
    read(root)
    (kept,) = (root.parent / "cache/indexes").iterdir()
    kept.write_bytes(kept.read_bytes()[:-9] if damage is None else damage)
    read(root)
    read(root)
    assert len(parsed) == 2


def test_nothing_is_kept_of_small_sets_and_of_what_warns(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = root / "annotations/instances_train.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"categories": content["categories"]}))
    read_split(COCO(root), "train", ["class1", "class2", "class3"], root.parent / "warns")
    assert not (root.parent / "warns").exists()  # it lacks class3, which every start is told
    monkeypatch.setattr(index, "WORTH_KEEPING", NUM + 1)
    read(root)
    assert not (root.parent / "cache").exists()
