"""Average precision of detections: by hand, against a plain reading of the devkit's rules, and COCOeval's own."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lshfm.metrics.box_errors import KINDS, error_counts, kinds_of
from lshfm.metrics.boxes import Found, Truth, overlaps
from lshfm.metrics.coco_detection import coco_figures
from lshfm.metrics.detection import DEFINITIONS, measure
from lshfm.metrics.voc_detection import voc_average_precisions

Row = tuple[float, ...]


def truth_of(rows: Sequence[Row]) -> Truth:
    """Rows of image, label, x1, y1, x2, y2, difficult, crowd."""
    table = np.array(rows, float).reshape(-1, 8)
    image, label = (table[:, i].astype(np.int64) for i in range(2))
    areas = (table[:, 4] - table[:, 2]) * (table[:, 5] - table[:, 3])
    return Truth(image, label, table[:, 2:6], table[:, 6] > 0, table[:, 7] > 0, areas)


def found_of(rows: Sequence[Row]) -> Found:
    """Rows of image, label, x1, y1, x2, y2, score."""
    table = np.array(rows, float).reshape(-1, 7)
    return Found(table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 2:6], table[:, 6])


def plain_voc(truth: Sequence[Row], found: Sequence[Row], label: int) -> tuple[float, float]:
    """The devkit's program written out: one detection after the other, precision and recall as lists."""
    objects = [list(row) for row in truth if row[1] == label]
    taken, hits, alarms, recall, precision = set(), 0, 0, [], []
    positives = sum(not (row[6] or row[7]) for row in objects)
    for row in sorted((r for r in found if r[1] == label), key=lambda r: -r[6]):
        best, place = -math.inf, -1
        for number, other in enumerate(objects):
            width = min(row[4], other[4]) - max(row[2], other[2])
            height = min(row[5], other[5]) - max(row[3], other[3])
            if other[0] != row[0] or width <= 0 or height <= 0:
                continue
            areas = (row[4] - row[2]) * (row[5] - row[3]) + (other[4] - other[2]) * (other[5] - other[3])
            share = width * height / (areas - width * height)
            if share > best:
                best, place = share, number
        if best > 0.5 and (objects[place][6] or objects[place][7]):
            continue
        if best > 0.5 and place not in taken:
            taken.add(place)
            hits += 1
        else:
            alarms += 1
        recall.append(hits)
        precision.append(hits / (hits + alarms))
    if not positives:
        return math.nan, math.nan
    eleven = [max([p for r, p in zip(recall, precision, strict=True) if 10 * r >= t * positives] or [0.0])
              for t in range(11)]  # fmt: skip
    area, before = 0.0, 0
    for i, r in enumerate(recall):
        if r > before:
            area += (r - before) / positives * max(precision[i:])
            before = r
    return sum(eleven) / 11, area


BOX = (0.0, 0.0, 10.0, 10.0)


class TestVocByHand:
    def aps(self, truth: Sequence[Row], found: Sequence[Row]) -> tuple[float, float]:
        both = voc_average_precisions(truth_of(truth), found_of(found), 1)
        return float(both["voc2007"][0]), float(both["voc_area"][0])

    def test_one_of_two_objects_is_found(self) -> None:
        """Precision 1 up to recall 1/2: 6 of 11 points, half of the area."""
        truth = [(0, 0, *BOX, 0, 0), (1, 0, *BOX, 0, 0)]
        assert self.aps(truth, [(0, 0, *BOX, 0.9)]) == pytest.approx((6 / 11, 0.5))

    def test_a_false_alarm_before_the_hit(self) -> None:
        assert self.aps([(0, 0, *BOX, 0, 0)], [(0, 0, 50, 50, 60, 60, 0.9), (0, 0, *BOX, 0.8)]) == (0.5, 0.5)

    def test_a_second_detection_of_an_object_is_a_false_alarm(self) -> None:
        """Even where a free object is overlapped enough: the devkit looks at the best one alone."""
        truth = [(0, 0, *BOX, 0, 0), (0, 0, 1, 0, 11, 10, 0, 0)]
        found = [(0, 0, *BOX, 0.9), (0, 0, 0, 0, 10.1, 10, 0.8)]
        assert self.aps(truth, found) == pytest.approx((6 / 11, 0.5))

    def test_a_difficult_object_counts_neither_way(self) -> None:
        truth = [(0, 0, *BOX, 0, 0), (0, 0, 50, 50, 60, 60, 1, 0)]
        found = [(0, 0, 50, 50, 60, 60, 0.9), (0, 0, 51, 50, 60, 60, 0.85), (0, 0, *BOX, 0.8)]
        assert self.aps(truth, found) == (1.0, 1.0)

    def test_an_overlap_of_a_half_is_too_little(self) -> None:
        truth = [(0, 0, *BOX, 0, 0)]
        assert self.aps(truth, [(0, 0, 0, 0, 10, 5, 0.9)]) == (0.0, 0.0)
        assert self.aps(truth, [(0, 0, 0, 0, 10, 5.01, 0.9)]) == (1.0, 1.0)

    def test_of_equal_scores_the_first_is_first(self) -> None:
        truth = [(0, 0, *BOX, 0, 0)]
        alarm, hit = (0, 0, 50, 50, 60, 60, 0.5), (0, 0, *BOX, 0.5)
        assert self.aps(truth, [hit, alarm]) == (1.0, 1.0)
        assert self.aps(truth, [alarm, hit]) == (0.5, 0.5)

    def test_recall_of_three_tenths_reaches_the_fourth_point(self) -> None:
        """0.3 < 3 * 0.1 in floating point."""
        truth = [(i, 0, *BOX, 0, 0) for i in range(10)]
        assert self.aps(truth, [(i, 0, *BOX, 0.9) for i in range(3)])[0] == pytest.approx(4 / 11)

    def test_nothing_to_find(self) -> None:
        assert all(map(math.isnan, self.aps([(0, 0, *BOX, 1, 0)], [(0, 0, *BOX, 0.5)])))


place = st.integers(0, 12)
side = st.integers(1, 12)
objects = st.tuples(st.integers(0, 2), st.integers(0, 1), place, place, side, side, st.integers(0, 1), st.just(0))
detections = st.tuples(st.integers(0, 2), st.integers(0, 1), place, place, side, side, st.integers(0, 6))


def corners(row: tuple[int, ...]) -> Row:
    image, label, x, y, width, height, *rest = row
    return (image, label, x, y, x + width, y + height, *rest)


@settings(max_examples=150, deadline=None)
@given(st.lists(objects, max_size=10), st.lists(detections, max_size=14))
def test_random_detections_by_the_devkits_rules(truth: list[Row], found: list[Row]) -> None:
    """Scores repeat, boxes touch, objects are difficult: everything as the program written out has it."""
    truth, found = [corners(row) for row in truth], [corners(row) for row in found]
    ours = voc_average_precisions(truth_of(truth), found_of(found), 2)
    for label in range(2):
        expected = plain_voc(truth, found, label)
        got = (ours["voc2007"][label], ours["voc_area"][label])
        np.testing.assert_allclose(got, expected, atol=1e-12)


def test_overlaps() -> None:
    first = np.array([BOX, (5, 0, 15, 10)], float)
    np.testing.assert_allclose(overlaps(first, first), [[1, 1 / 3], [1 / 3, 1]])
    assert overlaps(first, np.zeros((1, 4)))[0, 0] == 0


class TestCoco:
    def test_a_free_object_is_taken_where_the_best_one_is_not_free(self) -> None:
        """Unlike the devkit."""
        truth = truth_of([(0, 0, *BOX, 0, 0), (0, 0, 1, 0, 11, 10, 0, 0)])
        found = found_of([(0, 0, *BOX, 0.9), (0, 0, 0, 0, 10.1, 10, 0.8)])
        assert coco_figures(truth, found, 1, 1).ap50[0] == pytest.approx(1)

    def test_half_of_the_objects_found(self) -> None:
        """51 of 101 recalls have precision 1."""
        truth = truth_of([(0, 0, *BOX, 0, 0), (1, 0, *BOX, 0, 0)])
        figures = coco_figures(truth, found_of([(0, 0, *BOX, 0.9)]), 2, 2)
        assert figures.ap50[0] == pytest.approx(51 / 101)
        assert math.isnan(figures.ap50[1])
        assert figures.summary["AP50"] == pytest.approx(51 / 101)
        assert math.isnan(figures.summary["AP_large"])

    def test_an_overlap_of_a_half_is_enough(self) -> None:
        figures = coco_figures(truth_of([(0, 0, *BOX, 0, 0)]), found_of([(0, 0, 0, 0, 10, 5, 0.9)]), 1, 1)
        assert figures.ap50[0] == pytest.approx(1)
        assert figures.ap[0] == pytest.approx(0.1)

    def test_the_first_object_can_be_matched(self) -> None:
        """An annotation numbered 0 would never be."""
        assert coco_figures(truth_of([(0, 0, *BOX, 0, 0)]), found_of([(0, 0, *BOX, 0.9)]), 1, 1).ap[0] > 0.99

    def test_finding_a_crowd_is_no_false_alarm(self) -> None:
        truth = truth_of([(0, 0, *BOX, 0, 0), (0, 0, 20, 20, 60, 60, 0, 1)])
        found = found_of([(0, 0, 22, 22, 40, 40, 0.9), (0, 0, *BOX, 0.8)])
        assert coco_figures(truth, found, 1, 1).ap50[0] == pytest.approx(1)

    def test_nothing_found(self, capsys: pytest.CaptureFixture[str]) -> None:
        figures = coco_figures(truth_of([(0, 0, *BOX, 0, 0)]), found_of([]), 1, 1)
        assert figures.summary["AP"] == 0
        assert capsys.readouterr().out == ""


class TestMeasure:
    truth = truth_of([(0, 0, *BOX, 0, 0), (0, 0, 50, 50, 60, 60, 1, 0)])
    found = found_of([(0, 0, 50, 50, 60, 60, 0.9), (0, 0, *BOX, 0.8)])

    def test_difficult_objects_by_each_definition(self) -> None:
        """Removed, finding one is a false alarm; ignored, it is nothing."""
        report = measure(self.truth, self.found, 1, ["cat", "dog"], "coco_ap50")
        assert report["AP"] == report["coco_ap50"] == pytest.approx(50)
        assert report["voc2007"] == report["voc_area"] == 100
        assert report["ap"]["dog"] == {"coco_ap50": None, "voc2007": None, "voc_area": None, "coco_ap": None}
        assert (report["objects"], report["difficult"]) == ({"cat": 1, "dog": 0}, {"cat": 1, "dog": 0})

    def test_crowds_are_no_objects(self) -> None:
        """Neither of a class nor where errors are counted."""
        truth = truth_of([(0, 0, *BOX, 0, 0), (0, 0, 50, 50, 60, 60, 0, 1), (0, 0, 50, 50, 60, 60, 1, 1)])
        report = measure(truth, self.found, 1, ["cat"], "coco_ap")
        assert (report["objects"], report["difficult"], report["errors"]["objects"]) == ({"cat": 1}, {"cat": 0}, 1)

    @pytest.mark.parametrize("metric", DEFINITIONS)
    def test_any_definition_can_lead(self, metric: str) -> None:
        report = measure(self.truth, self.found, 1, ["cat"], metric)
        assert (report["metric"], report["AP"]) == (metric, report[metric])

    def test_an_empty_data_set(self) -> None:
        assert measure(truth_of([]), found_of([]), 0, ["cat"], "voc2007")["AP"] is None


class TestErrors:
    def test_every_kind_once(self) -> None:
        """Two cats, a dog and a difficult cat; each detection is of another kind, and one object is missed."""
        truth = truth_of([(0, 0, *BOX, 0, 0), (0, 0, 100, 0, 110, 10, 0, 0), (0, 1, 50, 50, 60, 60, 0, 0),
                          (0, 0, 200, 0, 210, 10, 1, 0)])  # fmt: skip
        found = found_of([
            (0, 0, *BOX, 0.95), (0, 0, 0, 0, 10, 9, 0.9), (0, 0, 50, 50, 60, 60, 0.85), (0, 0, 105, 0, 116, 10, 0.8),
            (0, 1, 300, 300, 310, 310, 0.75), (0, 0, 200, 0, 210, 10, 0.7), (0, 1, 50, 50, 60, 60, 0.4),
        ])  # fmt: skip
        kinds, is_found = kinds_of(truth, found)
        assert [KINDS[kind] for kind in kinds] == [
            "right", "double", "wrong class", "badly placed", "nothing there", "on difficult ones", "right",
        ]  # fmt: skip
        assert is_found.tolist() == [True, False, True, False]
        counts = error_counts(truth, found)
        assert counts == {"score": 0.5, **dict.fromkeys(KINDS, 1), "missed": 2, "objects": 3}

    def test_the_best_score_takes_the_object(self) -> None:
        truth = truth_of([(0, 0, *BOX, 0, 0)])
        kinds, _ = kinds_of(truth, found_of([(0, 0, 0, 0, 10, 8, 0.6), (0, 0, *BOX, 0.5), (1, 0, *BOX, 0.9)]))
        assert [KINDS[kind] for kind in kinds] == ["right", "double", "nothing there"]
