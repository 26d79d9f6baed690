"""Test images with objects and detections, and precision over recall, on a report's page."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from lshfm.report.arms import arms_of
from lshfm.report.blocks import Scenes
from lshfm.report.facts import FINISHED, Run
from lshfm.report.scenes import Shot, images_to_show, scenes_section
from lshfm.tasks.detection.page import boxes_of

HOSTILE = "</text></svg><script>alert(1)</script>\x00\u202e"
CLASSES = (HOSTILE, "dog")
OBJECTS = [
    [1, 0, 0, 10, 10, 0, 100],
    [2, 20, 20, 40, 40, 0, 400],
    [2, 50, 0, 60, 10, 1, 100],
]  # a cat, a dog, a difficult dog
# Right, double, of a wrong class, badly placed, nothing there, on a difficult one; and one below the score that counts.
FOUND = [
    (0.9, 0, (0, 0, 10, 10)), (0.8, 0, (0, 0, 10, 9)), (0.7, 0, (20, 20, 40, 40)), (0.6, 1, (20, 20, 40, 26)),
    (0.6, 1, (70, 70, 90, 90)), (0.6, 1, (50, 0, 60, 10)), (0.3, 1, (20, 20, 40, 40)),
]  # fmt: skip


def run(name: str = "a", **changed: Any) -> Run:
    """Of two images, of which the second has neither objects nor detections."""
    scores, labels, boxes = (np.array(list(column)) for column in zip(*FOUND, strict=True))
    arrays = {
        "ids": np.array([HOSTILE, "second"]),
        "objects": np.array([OBJECTS, np.zeros((3, 7))], np.float32),
        "scores": np.array([scores, np.full(len(scores), -1.0)], np.float32),
        "labels": np.array([labels, 0 * labels]),
        "boxes": np.array([boxes, 0 * boxes], np.float32),
    }
    return Run(name=name, folder=name, network=name, command="train", state=FINISHED, dataset="voc07",
               classes=CLASSES, arrays=arrays | changed)  # fmt: skip


def test_boxes_say_what_is_wrong_with_them() -> None:
    """Each detection that counts with its kind, missed objects dashed, difficult ones aside; images without objects."""
    arms = arms_of([run()])
    assert images_to_show(arms, boxes_of) == [HOSTILE]
    section = scenes_section(arms, boxes_of, [HOSTILE], {HOSTILE: Shot("data:image/jpeg;base64,AA", 100, 90)})
    assert section
    (block,) = section.blocks
    assert isinstance(block, Scenes)
    (scene,) = block.scenes
    truth, found = scene.views
    assert [box.look for box in truth.outlines] == ["object", "object", "aside"]
    assert found.says == (
        "1 right, 1 double, 1 wrong class, 1 badly placed, 1 nothing there, 1 on difficult ones, 1 missed"
    )
    looks = {box.says.removeprefix(HOSTILE).strip(): box.look for box in found.outlines}
    assert looks == {
        "0.90: right": "right", "0.80: double": "wrong", "0.70: wrong class": "wrong",
        "dog 0.60: badly placed": "wrong", "dog 0.60: nothing there": "wrong", "dog 0.60: on difficult ones": "aside",
        "dog: missed": "missed",
    }  # fmt: skip
    assert len({box.at for box in found.outlines}) == len(found.outlines)  # no text lies upon another


@pytest.mark.parametrize(
    "changed",
    [
        {"scores": np.zeros((2, 9))}, {"labels": np.full((2, 7), 2)}, {"objects": np.full((2, 3, 7), 7.0)},
        {"boxes": np.zeros((2, 7, 3))}, {"ids": np.zeros(2)}, {"objects": np.array([["a"]])},
    ],
)  # fmt: skip
def test_damaged_arrays_show_nothing(changed: dict[str, Any]) -> None:
    assert boxes_of(run(**changed)) is None


def test_a_precision_recall_curve_by_hand() -> None:
    pytest.importorskip("matplotlib")
    from lshfm.report.precision_page import curve, judged_of

    boxes = boxes_of(run())
    assert boxes
    scores, verdicts, objects = judged_of(boxes, 1)
    assert scores == pytest.approx([0.6, 0.6, 0.3])  # the one on a difficult object is left out
    assert (verdicts.tolist(), objects) == ([0, 0, 1], 1)
    precision, recall = curve(verdicts, objects)
    assert (precision.tolist(), recall.tolist()) == ([1 / 3], [1.0])
    assert curve(np.zeros(3, np.int8), 2)[0].tolist() == []
    many = np.ones(1000, np.int8)
    assert len(curve(many, 1000)[0]) == 120
    assert curve(many, 1000)[1][[0, -1]].tolist() == [0.001, 1.0]


def test_on_the_page_hostile_names_are_text_and_a_picture_is_there_once() -> None:
    pytest.importorskip("matplotlib")
    from lshfm.report.page import page
    from lshfm.report.precision_page import precision_section

    arms = arms_of([run("a"), run("b")])
    shot = {HOSTILE: Shot("data:image/jpeg;base64,AA", 100, 90)}
    both = [scenes_section(arms, boxes_of, [HOSTILE], shot), precision_section(arms, boxes_of)]
    without = scenes_section(arms, boxes_of, [HOSTILE], {})
    assert without
    html = page("t", [*(section for section in both if section), replace(without, id="without")])
    tags: list[str] = []

    class Seen(HTMLParser):
        def handle_starttag(self, tag: str, attrs: Any) -> None:
            tags.append(tag)

    Seen().feed(html)
    assert tags.count("script") == 1
    assert tags.count("image") == 1
    assert html.count('href="#scene-1"') == 2
    assert html.count("picture missing") == 3
    assert "\u202e" not in html
    assert "style=" not in re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)


def test_runs_without_boxes_have_no_scenes() -> None:
    arms = arms_of([run(scores=np.zeros(2))])
    assert images_to_show(arms, boxes_of) == []
    assert scenes_section(arms, boxes_of, ["x"], {}) is None
