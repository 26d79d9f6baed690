"""What the task detection says of losses, networks and images, without training anything."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from torch import nn

from lshfm.config.groups import MimicLoss, Student
from lshfm.datasets.boxes import CROWD, DIFFICULT, PLAIN, BoxSplit
from lshfm.datasets.images import FileImages
from lshfm.errors import InputError
from lshfm.losses.lsh import LSH
from lshfm.models.detection.build import detector
from lshfm.tasks.detection.data import _not_empty, has_object
from lshfm.tasks.detection.task import Detection


class Own(nn.Module):
    """A user's own loss between features."""


def task() -> Detection:
    return Detection.__new__(Detection)


def loss(target: type, **keys: Any) -> MimicLoss:
    node = {"kind": "feature", "weight": 1.0, "terms": {"x": {"_target_": f"{target.__module__}.{target.__name__}"}}}
    others = {"beta": 7.0, "gamma": 1.0, "alpha": 0.0, "hashing": None, "temperature": None, "of_boxes": None}
    return MimicLoss(option="x", own={"x": node}, name="x", **(others | keys))


def student(arch: str) -> Student:
    return Student(option=arch, own={"arch": arch}, name=arch, weights="none", projection=False, init=None)


def test_what_no_detector_mimics_is_refused_before_anything_is_computed() -> None:
    """A loss of the user's own fits features of boxes, but has no form on RetinaNet's windows."""
    task().check_mimicking(loss(Own), student("fasterrcnn_vgg11"))
    task().check_mimicking(loss(LSH), student("retinanet_vgg11"))
    with pytest.raises(InputError, match="Own has no form for RetinaNet's windows"):
        task().check_mimicking(loss(Own), student("retinanet_vgg11"))
    with pytest.raises(InputError, match=r"loss\.alpha=0\.5: detectors mimic features, and no logits"):
        task().check_mimicking(loss(LSH, alpha=0.5), student("fasterrcnn_vgg11"))


def test_constants_of_a_network_are_what_no_weight_tells() -> None:
    small = {"fpn_channels": 8, "width": 0.25}
    made = detector("retinanet_mobilenet_v2_fpn", 3, frozen_eps=0.0, per_class=300, **small)
    assert task().constants(made) == {"frozen_eps": 0.0, "per_class": 300}
    assert task().constants(detector("fasterrcnn_mobilenet_v2_fpn", 3, norm="batch", **small)) == {}


def test_images_to_learn_from_are_those_that_the_published_code_takes() -> None:
    """Crowds count, and what is at most a pixel wide or high does not; nor do difficult objects."""
    rows = np.array(
        [[1, 0, 0, 9, 9, CROWD], [1, 0, 0, 1, 9, PLAIN], [1, 0, 0, 9, 1.5, PLAIN], [1, 0, 0, 9, 9, DIFFICULT],
         [0, 0, 0, 0, 0, 0]], np.float32,
    )  # fmt: skip
    assert has_object(rows).tolist() == [True, False, True, False, False]


def test_a_split_without_an_object_to_learn_is_refused() -> None:
    """All of it would be background; an image without objects beside others is."""
    dataset: Any = SimpleNamespace(pictures=None)
    rows = np.array([[[1, 0, 0, 9, 9, CROWD]], [[1, 0, 0, 9, 9, DIFFICULT]], [[1, 0, 0, 9, 9, PLAIN]]], np.float32)
    sizes = np.full((3, 2), 9)
    split = BoxSplit("train", ("a",), ("0", "1", "2"), rows, FileImages(tuple(map(Path, "012"))), sizes)
    assert _not_empty(split, np.arange(3), dataset).tolist() == [0, 1, 2]
    with pytest.raises(InputError, match="train: no image has an object to learn; difficult ones and crowds are none"):
        _not_empty(split, np.arange(2), dataset)
