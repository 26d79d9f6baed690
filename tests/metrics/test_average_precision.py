"""Average precision against hand-worked rankings, literal renderings of the definitions, and scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from lshfm.metrics.average_precision import (
    DEFINITIONS,
    average_precisions,
    precision_at_hits,
    uninterpolated_ap,
    voc2007_ap,
    voc2010_ap,
)

LABELS = st.lists(st.sampled_from([-1, 0, 1]), min_size=1, max_size=40)


def in_rank_order(*labels):
    """Scores n, n-1, ... 1 for labels written best first."""
    return np.arange(len(labels), 0, -1, dtype=np.float32), np.array(labels, dtype=np.int8)


@st.composite
def rankings(draw, distinct=False):
    labels = np.array(draw(LABELS), dtype=np.int8)
    values = st.integers(-20, 20)
    size = len(labels)
    drawn = draw(st.permutations(range(size)) if distinct else st.lists(values, min_size=size, max_size=size))
    return np.array(drawn, dtype=np.float32) - np.float32(size / 2 if distinct else 0), labels


def curve(scores, labels):
    """(recall, precision) after every image that counts, by counting one image at a time."""
    counted = [i for i in range(len(labels)) if labels[i] != 0]
    counted.sort(key=lambda i: -scores[i])
    points, hits, positives = [], 0, int((labels == 1).sum())
    for rank, i in enumerate(counted, start=1):
        hits += labels[i] == 1
        points.append((hits, hits / positives, hits / rank))
    return points


def literal_voc2010(scores, labels):
    points, area, previous = curve(scores, labels), 0.0, 0.0
    for hits, recall, _ in points:
        area += (recall - previous) * max(p for h, _, p in points if h >= hits)
        previous = recall
    return area


def literal_voc2007(scores, labels):
    points, positives = curve(scores, labels), int((labels == 1).sum())
    return sum(max(p for h, _, p in points if 10 * h >= j * positives) for j in range(11)) / 11


@pytest.mark.parametrize(
    ("labels", "voc2010", "voc2007", "uninterpolated"),
    [
        ((1, 1, -1), 1, 1, 1),
        ((-1, -1, 1), 1 / 3, 1 / 3, 1 / 3),
        # precisions 1, 2/3, 3/5; recalls 0-0.3 are reached at the first hit, 0.4-0.6 at the second
        ((1, -1, 1, -1, 1), 34 / 45, (4 * 1 + 3 * 2 / 3 + 4 * 3 / 5) / 11, 34 / 45),
        # precisions 1/2, 2/3: the second hit lifts the first when made monotone
        ((-1, 1, 1), 2 / 3, 2 / 3, 7 / 12),
        # precisions 1, 2/5, 3/6: the third hit lifts the second
        ((1, -1, -1, -1, 1, 1), (1 + 1 / 2 + 1 / 2) / 3, (4 * 1 + 7 / 2) / 11, (1 + 2 / 5 + 1 / 2) / 3),
    ],
)
def test_hand_worked_rankings(labels, voc2010, voc2007, uninterpolated):
    ranking = in_rank_order(*labels)
    assert voc2010_ap(*ranking) == pytest.approx(voc2010, abs=1e-12)
    assert voc2007_ap(*ranking) == pytest.approx(voc2007, abs=1e-12)
    assert uninterpolated_ap(*ranking) == pytest.approx(uninterpolated, abs=1e-12)


def test_a_recall_of_exactly_three_tenths_reaches_the_point_at_three_tenths():
    # 3 of 10 positives come first, then 7 wrong ones, then 7 positives at precisions up to 10/17.
    ranking = in_rank_order(*[1] * 3, *[-1] * 7, *[1] * 7)
    assert voc2007_ap(*ranking) == pytest.approx((4 * 1 + 7 * 10 / 17) / 11, abs=1e-12)


def test_difficult_images_are_neither_hits_nor_misses():
    plain = average_precisions(*in_rank_order(1, -1, 1))
    assert average_precisions(*in_rank_order(0, 1, 0, -1, 1, 0)) == plain
    assert plain["uninterpolated"] == pytest.approx(5 / 6)


def test_ties_keep_the_order_of_the_samples():
    scores = np.zeros(40, dtype=np.float32)  # long enough that an unstable sort would shuffle them
    labels = np.full(40, -1, dtype=np.int8)
    labels[[1, 39]] = 1
    np.testing.assert_allclose(precision_at_hits(scores, labels), [1 / 2, 2 / 40])
    np.testing.assert_allclose(precision_at_hits(scores, labels[::-1]), [1, 2 / 39])


def test_zero_and_minus_zero_tie():
    scores = np.array([-0.0, 0.0], dtype=np.float32)
    assert uninterpolated_ap(scores, np.array([-1, 1], dtype=np.int8)) == 0.5


def test_logits_that_fp32_sigmoids_cannot_tell_apart_are_still_ranked():
    scores = np.array([40, 41, 42], dtype=np.float32)
    assert set(1 / (1 + np.exp(-scores))) == {np.float32(1)}
    assert uninterpolated_ap(scores, np.array([-1, -1, 1], dtype=np.int8)) == 1


@pytest.mark.parametrize("labels", [(-1, -1), (0, -1), (0, 0), ()])
def test_a_class_without_positives_has_no_average_precision(labels):
    ranking = in_rank_order(*labels)
    assert all(math.isnan(definition(*ranking)) for definition in DEFINITIONS.values())
    assert all(math.isnan(value) for value in average_precisions(*ranking).values())


def test_the_shared_ranking_gives_what_each_definition_gives_alone():
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=300).astype(np.float32), rng.integers(-1, 2, 300).astype(np.int8)
    shared = average_precisions(scores, labels)
    assert shared == {name: definition(scores, labels) for name, definition in DEFINITIONS.items()}
    assert list(shared) == ["voc2010", "voc2007", "uninterpolated"]
    assert len(set(shared.values())) == 3


@given(rankings())
def test_equals_a_literal_rendering_of_the_definitions(ranking):
    if (ranking[1] == 1).any():
        assert voc2010_ap(*ranking) == pytest.approx(literal_voc2010(*ranking), abs=1e-12)
        assert voc2007_ap(*ranking) == pytest.approx(literal_voc2007(*ranking), abs=1e-12)


@given(rankings(distinct=True))
def test_uninterpolated_is_scikit_learns_for_distinct_scores(ranking):
    scores, labels = ranking
    counted = labels != 0
    if (labels == 1).any():
        expected = average_precision_score(labels[counted] == 1, scores[counted])
        assert uninterpolated_ap(scores, labels) == pytest.approx(expected, abs=1e-12)


@given(rankings())
def test_ignoring_difficult_images_is_deleting_them(ranking):
    scores, labels = ranking
    kept = labels != 0
    without = average_precisions(scores[kept], labels[kept])
    np.testing.assert_equal(average_precisions(scores, labels), without)


@given(rankings())
def test_only_the_order_of_the_scores_counts(ranking):
    scores, labels = ranking
    np.testing.assert_equal(average_precisions(scores**3 + 7, labels), average_precisions(scores, labels))


@given(rankings(distinct=True), st.randoms(use_true_random=False))
def test_the_order_of_the_images_does_not_count_where_scores_are_distinct(ranking, random):
    scores, labels = ranking
    order = random.sample(range(len(labels)), len(labels))
    shuffled = average_precisions(scores[order], labels[order])
    np.testing.assert_equal(shuffled, average_precisions(scores, labels))


@given(rankings())
def test_bounds(ranking):
    if (ranking[1] == 1).any():
        values = average_precisions(*ranking)
        assert all(0 < value <= 1 for value in values.values())
        assert values["voc2010"] >= values["uninterpolated"]
