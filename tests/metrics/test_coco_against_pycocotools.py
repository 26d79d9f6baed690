"""Our twelve numbers of COCO's are those that pycocotools computes from the annotation file itself."""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from lshfm.datasets.boxes import box_split
from lshfm.datasets.coco import COCO as Reader
from lshfm.metrics.boxes import Found
from lshfm.metrics.coco_detection import SUMMARY, coco_figures
from lshfm.tasks.detection.evaluation import truth_of


def test_real_images_with_detections_around_their_objects(test_data: Path) -> None:
    """Two a box, moved and stretched at random, crowds among them; areas are the masks', which the file tells."""
    root = test_data / "coco2014"
    file = root / "annotations/instances_val2014.json"
    split = box_split(Reader(root, keep="all"), "val2014")
    random, results = np.random.default_rng(0), []
    for entry in json.loads(file.read_text())["annotations"] * 2:
        x, y, w, h = entry["bbox"]
        a, b, c, d = random.normal(0, 0.12, 4)
        box = [x + a * w, y + b * h, w * (1 + c), h * (1 + d)]
        known = {name: entry[name] for name in ("image_id", "category_id")}
        results.append(known | {"bbox": box, "score": float(random.random())})
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO(file)
        theirs = COCOeval(reference, reference.loadRes(results), "bbox")
        theirs.evaluate()
        theirs.accumulate()
        theirs.summarize()
    places, labels = ({key: n for n, key in enumerate(keys)} for keys in (split.ids, split.category_ids))
    corners = np.array([each["bbox"] for each in results])
    corners[:, 2:] += corners[:, :2]
    found = Found(
        np.array([places[str(each["image_id"])] for each in results]),
        np.array([labels[each["category_id"]] for each in results]), corners,
        np.array([each["score"] for each in results]),
    )  # fmt: skip
    ours = coco_figures(truth_of(split.labels), found, len(split), len(split.classes)).summary
    assert list(ours) == list(SUMMARY)
    assert ours["AP_small"] != pytest.approx(ours["AP_medium"], abs=1e-3)
    assert list(ours.values()) == pytest.approx(list(theirs.stats), abs=1e-9)


@pytest.mark.parametrize("area", [None, "x", True, 0, -1, float("nan"), float("inf"), 10**400])
def test_what_is_no_area_is_the_boxs(area: object, tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val").mkdir()
    entry = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 4, 5], "area": area}
    lists = {"images": [{"id": 1, "file_name": "a.jpg", "width": 9, "height": 9}], "annotations": [entry]}
    lists["categories"] = [{"id": 1, "name": "a"}]
    (tmp_path / "annotations/instances_val.json").write_text(json.dumps(lists))
    assert box_split(Reader(tmp_path, keep="all"), "val").labels[0, 0, 6] == 20
