"""A report's sections on one label an image."""

from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from lshfm.metrics.singlelabel import losses_of_images, measure
from lshfm.report import classes_page, confusion_page, singlelabel_page
from lshfm.report.arms import Arm, arms_of
from lshfm.report.blocks import Pictures, Section, Table
from lshfm.report.facts import Run
from lshfm.report.page import page
from lshfm.report.tables_page import as_plain, comparison
from lshfm.tasks.examples import examples
from lshfm.tasks.singlelabel import SingleLabel
from tests.report.facts import a_run, a_student
from tests.report.test_page import HOSTILE, Seen

CLASSES = ("cat", "dog", "bird")
TARGETS = (0, 0, 0, 0, 1, 1)  # no bird


def outputs(told: Any, classes: tuple[str, ...] = CLASSES) -> dict[str, Any]:
    """A run's classes, arrays and report, of images that are told to be these classes."""
    logits = np.eye(len(classes), dtype=np.float32)[list(told)]
    targets = np.array(TARGETS)
    report = measure(logits, targets, classes, "top1")
    arrays = {"ids": np.array([f"image{i}" for i in range(len(targets))]), "logits": logits, "targets": targets}
    return {"classes": classes, "arrays": arrays, "report": report, "metric": "top1 accuracy", "score": report["top1"]}


def arms(classes: tuple[str, ...] = CLASSES) -> list[Arm]:
    """A student alone, and one that mimics: better with cats, worse with dogs."""
    alone = a_run("alone", **outputs((0, 1, 2, 2, 1, 1), classes))
    better = a_student("m", averaged=70.0, **outputs((0, 0, 0, 0, 0, 1), classes))
    return arms_of([alone, better])


def table(section: Section | None) -> Table:
    assert section
    (found,) = (block for block in section.blocks if isinstance(block, Table))
    return found


def texts(found: Table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in found.rows]


def test_all_metrics_of_each_arm() -> None:
    section = singlelabel_page.sections(arms())[0]
    assert section.title == "Accuracy and calibration"
    right, wrong = (float(np.log(np.exp(1) + 2) - value) for value in (1, 0))
    confidence = float(100 * np.exp(-right))
    assert texts(table(section)) == [
        ["resnet8 alone", "50.00", "100.00", "62.50", f"{(right + wrong) / 2:.3f}", f"{abs(confidence - 50):.2f}"],
        ["resnet8 mimicking, l2", "83.33", "100.00", "75.00", f"{(5 * right + wrong) / 6:.3f}",
         f"{abs(confidence - 500 / 6):.2f}"],
    ]  # fmt: skip


def test_classes_with_the_largest_gain_first_and_those_without_images_last() -> None:
    section = singlelabel_page.sections(arms())[1]
    assert section.title == "Accuracy by class"
    assert "; the largest gain of resnet8 mimicking, l2 first." in section.intro
    assert texts(table(section)) == [
        ["cat", "25.00", "100.00", "+75.00"], ["dog", "100.00", "50.00", "-50.00"], ["bird", "–", "–", "–"]
    ]  # fmt: skip
    (only,) = (s for s in singlelabel_page.sections(arms()[:1]) if s.id == "classes")
    assert [row[0] for row in texts(table(only))] == ["cat", "dog", "bird"]  # of one arm the least first
    assert "; the least first." in only.intro


def test_of_many_classes_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classes_page, "DRAWN", 2)
    names = (*CLASSES, *"abcd")
    (section,) = (s for s in singlelabel_page.sections(arms(names)) if s.id == "classes")
    assert section.intro.endswith(" Of 7 classes 2 are drawn and 7 listed, from both ends of the order.")
    assert len(table(section).rows) == 7
    monkeypatch.setattr(classes_page, "LISTED", 4)
    (section,) = (s for s in singlelabel_page.sections(arms(names)) if s.id == "classes")
    assert "7 classes 2 are drawn and 2 listed" in section.intro  # the others have no images
    assert [row[0] for row in texts(table(section))] == ["cat", "dog"]
    assert classes_page._ends(list("abcdefg"), 6, 4) == ["a", "b", "e", "f"]


def test_the_mistakes_of_the_best_beside_the_reference() -> None:
    section = confusion_page.section(arms())
    assert texts(table(section)) == [["dog", "cat", "1", "50.0", "0"]]
    assert texts(table(confusion_page.section(arms()[:1]))) == [
        ["cat", "bird", "2", "50.0"], ["cat", "dog", "1", "25.0"]
    ]  # fmt: skip
    entries = np.array([[0, 0, 4], [1, 0, 1], [1, 1, 1]])
    assert confusion_page.shares_of(entries, 3).tolist() == [[1, 0, 0], [0.5, 0.5, 0], [0, 0, 0]]


def test_a_matrix_is_drawn_up_to_so_many_classes() -> None:
    """Small ones have names and numbers, middle ones are one image, of the largest there is the table alone."""
    for classes, pictures, labels in ((3, 1, 1), (100, 1, 0), (201, 0, 0)):
        names = tuple(f"class {i}" for i in range(classes))
        section = confusion_page.section(arms(names))
        assert section
        found = [p for block in section.blocks if isinstance(block, Pictures) for p in block.pictures]
        assert len(found) == pictures
        assert sum(">class 2<" in picture.svg for picture in found) == labels
        for picture in found:
            ElementTree.fromstring(picture.svg.replace("xlink:", ""))
            assert picture.svg.count("data:image/png") == 1
            assert len(picture.svg) < 20_000
        assert len(table(section).rows) == 1


@pytest.mark.parametrize("entries", [None, "no", 3, [[0, 1]], [[0, 9, 1]], [[0, 1, -1]], [[0, 1, 1.5]], [[0], [1, 2]],
                                     [[0, 1, 10**30]], [[{}, 1, 1]]])  # fmt: skip
def test_nonsense_is_left_out(entries: Any) -> None:
    told = outputs((0, 1, 2, 2, 1, 1))
    report = told["report"] | {"confusion": entries}
    found = singlelabel_page.sections(arms_of([a_run("a", **(told | {"report": report}))]))
    assert [section.id for section in found] == ["measures", "classes"]


@pytest.mark.parametrize("rows", [None, "no", [1, 2], [{"class": 3}], [{}]])
def test_nonsense_by_class_is_left_out(rows: Any) -> None:
    told = outputs((0, 1, 2, 2, 1, 1))
    report = told["report"] | {"per_class": rows}
    found = singlelabel_page.sections(arms_of([a_run("a", **(told | {"report": report}))]))
    assert "classes" not in [section.id for section in found]
    assert page("t", found)


def test_runs_that_tell_nothing_have_no_sections() -> None:
    assert singlelabel_page.sections(arms_of([Run(name="a", folder="a", command="train")])) == []


def test_hostile_names_are_text() -> None:
    text = page("t", singlelabel_page.sections(arms((HOSTILE, "dog", "bird"))))
    seen = Seen()
    seen.feed(text)
    assert seen.tags.count("script") == 1
    assert not [name for name, _ in seen.attributes if name.startswith("on") or name == "style"]
    assert "\u202e" not in text
    text.encode()
    targets = [value or "" for name, value in seen.attributes if name in ("href", "src", "xlink:href")]
    assert all(target.startswith(("#", "data:")) for target in targets)


def test_the_mean_of_the_last_weights_stands_beside_the_score() -> None:
    section = comparison(arms(), "")
    columns = [column.title for column in table(section).columns]
    assert [row[columns.index("averaged")] for row in texts(table(section))][-2:] == ["–", "70.00"]
    assert [entry["averaged"] for entry in as_plain(arms())] == [None, 70.0]
    assert "averaged" not in [column.title for column in table(comparison(arms()[:1], "")).columns]


def test_an_image_s_loss_and_labels() -> None:
    logits = np.array([[0, 0, 0, 0], [0, np.log(3), 0, 0]], np.float32)
    arrays = {"logits": logits, "targets": np.array([2, -1])}
    assert losses_of_images(logits, arrays["targets"]) == pytest.approx([np.log(4), 0])
    true, told = SingleLabel().labels_of_image(arrays, 0, "abcd")
    assert (true, told) == (["c"], [("a", 0.25, False), ("b", 0.25, False), ("c", 0.25, True)])
    true, told = SingleLabel().labels_of_image(arrays, 1, "abcd")
    assert true == []
    assert told[0] == ("b", pytest.approx(0.5), False)
    assert SingleLabel().definition("top1") == "share of images whose label has the largest logit, in percent"


@pytest.mark.parametrize("targets", [np.zeros((6, 3), np.int8), np.zeros(6), np.full(6, 3), np.full(6, "a")])
def test_damaged_targets_have_no_examples(targets: np.ndarray) -> None:
    told, other = outputs((0, 1, 2, 2, 1, 1)), outputs((0, 0, 0, 0, 0, 1))
    told["arrays"]["targets"] = targets
    found = arms_of([a_run("alone", **told), a_student("m", **other)])
    assert examples(SingleLabel(), None, found) == (None, None)  # type: ignore[arg-type]
