"""A start at COCO's size: annotations and store, opened for the first time and for the second."""

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.growth import few_small
from benchmarks.speed.timing import rounded
from lshfm.config.compose import compose, conf_folder
from lshfm.config.groups import Dataset
from lshfm.config.schema import Train
from lshfm.datasets.store import pixel_key
from lshfm.tasks.pixels import open_pixels, read_splits

SPLIT = "train2014"


def seconds(folder: Path, num: int) -> dict[str, Any]:
    """Seconds, and those of a core in this process, of opening `num` annotated pictures of 8 px; twice."""
    dataset, found = _dataset(coco(folder, num), folder / f"coco{num}_stores"), {}
    shutil.rmtree(dataset.cache_dir, ignore_errors=True)
    for start in ("first", "second"):
        clock, core = time.perf_counter(), time.process_time()
        (split,) = read_splits(dataset, [SPLIT])
        open_pixels(split, dataset, None)
        pixel_key(split.images, dataset.size)
        split.fingerprint()  # of the run's identity
        found[start] = {"seconds": rounded(time.perf_counter() - clock, 3),
                        "of_a_core": rounded(time.process_time() - core, 3)}  # fmt: skip
    return {"images": num, **{f"{start}: {name}": value for start, own in found.items() for name, value in own.items()}}


def _dataset(root: Path, stores: Path) -> Dataset:
    with conf_folder():
        words = ["dataset=coco2014", f"dataset.root={root}", "dataset.size=8", f"dataset.cache_dir={stores}"]
        settings: Train = compose(Train, [*words, "dataset.cache=on"]).settings
    return settings.dataset


def coco(folder: Path, num: int) -> Path:
    """A data set in COCO's format: so many small pictures, hard links to a few, with seven boxes each."""
    root, few = folder / f"coco{num}", few_small(folder)
    if (root / "done").is_file():
        return root
    (root / SPLIT).mkdir(parents=True, exist_ok=True)
    (root / "annotations").mkdir(exist_ok=True)
    names = [f"COCO_{SPLIT}_{number:012d}.jpg" for number in range(num)]
    for number, name in enumerate(names):
        if not (root / SPLIT / name).exists():
            os.link(few[number % len(few)], root / SPLIT / name)
    (root / f"annotations/instances_{SPLIT}.json").write_text(json.dumps(_annotations(names)))
    (root / "done").touch()
    return root


def _annotations(names: list[str]) -> dict[str, Any]:
    categories = np.random.default_rng(0).integers(1, 81, 7 * len(names)).tolist()
    boxes = [{"id": n, "image_id": n // 7, "category_id": category, "bbox": [3.5, 4.25, 20.5, 30.0], "area": 615.0,
              "iscrowd": 0} for n, category in enumerate(categories)]  # fmt: skip
    return {
        "images": [{"id": n, "file_name": name, "width": 64, "height": 48} for n, name in enumerate(names)],
        "annotations": boxes,
        "categories": [{"id": c, "name": f"class{c}", "supercategory": "x"} for c in range(1, 81)],
    }
