"""The whole measurement of multi-label predictions: hand-counted, against scikit-learn, and properties."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score, precision_recall_fscore_support

from lshfm.errors import InputError, RunFailed
from lshfm.metrics.average_precision import average_precisions
from lshfm.metrics.multilabel import devkit_lines, highest, measure

SHAPES = st.tuples(st.integers(1, 12), st.integers(1, 6))


@st.composite
def predictions(draw, labels=(-1, 0, 1), distinct=False):
    shape = draw(SHAPES)
    targets = draw(hnp.arrays(np.int8, shape, elements=st.sampled_from(labels)))
    if distinct:
        logits = np.array(draw(st.permutations(range(shape[0] * shape[1])))).reshape(shape) - shape[0]
    else:
        logits = draw(hnp.arrays(np.int64, shape, elements=st.integers(-4, 4)))
    return logits.astype(np.float32), targets


def names(count):
    return [f"class {c}" for c in range(count)]


def measured(logits, labels, headline="voc2010"):
    logits, labels = np.array(logits, dtype=np.float32), np.array(labels, dtype=np.int8)
    return measure(logits, labels, names(labels.shape[1]), headline)


def random_case(n=200, classes=7, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random((n, classes)) < 0.3, 1, -1).astype(np.int8)
    return (rng.normal(size=labels.shape) + labels).astype(np.float32), labels


def numbers(result):
    """Every percentage of a result."""
    tables = [result["mAPs"], result["threshold_0.5"], result["top_3"], *result["ap"].values()]
    return [value for table in tables for value in table.values() if value is not None]


def test_hand_counted():
    result = measured(
        logits=[[2, 1, -1], [1, -1, 0], [-1, 3, -2], [0.5, -3, -3]],
        labels=[[1, -1, -1], [-1, 1, 0], [1, 1, -1], [0, -1, -1]],
    )
    # class 0: ranked + - + with a difficult one left out; class 1: ranked + - + -; class 2 has no positives
    assert result["ap"]["class 0"] == pytest.approx(
        {"voc2010": 250 / 3, "voc2007": 100 * (6 + 5 * 2 / 3) / 11, "uninterpolated": 250 / 3}
    )
    assert result["ap"]["class 1"] == result["ap"]["class 0"]
    assert result["ap"]["class 2"] == {"voc2010": None, "voc2007": None, "uninterpolated": None}
    assert result["mAPs"] == pytest.approx(result["ap"]["class 0"])
    assert result["mAP"] == result["mAPs"]["voc2010"]
    # class 0 claims 2 and hits 1 of 2; class 1 claims 2 and hits 1 of 2; class 2 claims a difficult entry
    assert result["threshold_0.5"] == {"CP": 50, "CR": 50, "CF1": 50, "OP": 50, "OR": 50, "OF1": 50}
    assert {key: result[key] for key in list(result)[7:]} == {
        "images": 4,
        "classes": 3,
        "classes_averaged": 2,
        "classes_without_positives": ["class 2"],
        "ignored_difficult": 2,
        "positive_rate": 0.4,
    }


def test_a_logit_of_zero_is_a_prediction():
    assert measured([[0.0]], [[1]])["threshold_0.5"]["OR"] == 100
    assert measured([[-1e-30]], [[1]])["threshold_0.5"]["OR"] == 0


def test_nothing_predicted_scores_zero():
    zeros = dict.fromkeys(("CP", "CR", "CF1", "OP", "OR", "OF1"), 0)
    assert measured([[-1, -2]], [[1, -1]])["threshold_0.5"] == zeros


def test_a_class_with_nothing_predicted_has_precision_zero_and_adds_nothing_to_op():
    scores = measured([[1, -1], [-1, -1]], [[1, 1], [-1, -1]])["threshold_0.5"]
    assert (scores["CP"], scores["CR"], scores["OP"], scores["OR"]) == (50, 50, 100, 50)
    assert scores["OF1"] == pytest.approx(200 / 3)


def test_predictions_of_a_class_without_positives_count_in_op_alone():
    scores = measured([[1, 1], [-1, -1]], [[1, -1], [-1, -1]])["threshold_0.5"]
    assert (scores["CP"], scores["CR"], scores["OP"], scores["OR"]) == (100, 100, 50, 100)


def test_top_3_takes_the_highest_scores_that_pass_the_threshold():
    result = measured([[5, 4, 3, 2, -1], [1, -1, -2, -3, -4]], [[-1, 1, 1, 1, -1], [1, 1, -1, -1, -1]])
    # 5 4 3 of the first image and 1 of the second: 3 of 4 claims right, 3 of 5 positives found
    assert (result["top_3"]["OP"], result["top_3"]["OR"]) == (75, 60)
    assert (result["threshold_0.5"]["OP"], result["threshold_0.5"]["OR"]) == (80, 80)


def test_a_difficult_entry_uses_up_a_place_among_the_three():
    result = measured([[4, 3, 2, 1]], [[0, -1, 1, 1]])
    assert (result["top_3"]["OP"], result["top_3"]["OR"]) == (50, 50)


def test_equal_scores_are_taken_in_the_order_of_the_classes():
    logits = np.zeros((2, 80), dtype=np.float32)  # wide enough that an unstable sort would shuffle the ties
    logits[1, [40, 70]] = 1
    rows, columns = np.nonzero(highest(logits, 3))
    assert rows.tolist() == [0, 0, 0, 1, 1, 1]
    assert columns.tolist() == [0, 1, 2, 0, 40, 70]


def test_fewer_than_three_classes_are_all_among_the_highest():
    result = measured([[1, 2]], [[1, -1]])
    assert result["top_3"] == result["threshold_0.5"]


@pytest.mark.parametrize("headline", ["voc2010", "voc2007", "uninterpolated"])
def test_the_headline_picks_the_map(headline):
    logits, labels = random_case()
    result = measured(logits, labels, headline)
    assert result["metric"] == headline
    assert result["mAP"] == result["mAPs"][headline]
    assert len(set(result["mAPs"].values())) == 3


def test_equals_scikit_learn_without_difficult_labels():
    logits, labels = random_case()
    labels[:, 3] = -1  # no positives
    logits[:, 4] = -np.abs(logits[:, 4]) - 1  # nothing predicted
    result = measured(logits, labels)
    truth, claimed, averaged = labels == 1, logits >= 0, [0, 1, 2, 4, 5, 6]
    macro = precision_recall_fscore_support(truth, claimed, labels=averaged, average="macro", zero_division=0)
    micro = precision_recall_fscore_support(truth, claimed, average="micro", zero_division=0)
    scores = result["threshold_0.5"]
    assert (scores["CP"], scores["CR"]) == pytest.approx((100 * macro[0], 100 * macro[1]))
    assert scores["CF1"] == pytest.approx(200 * macro[0] * macro[1] / (macro[0] + macro[1]))
    assert (scores["OP"], scores["OR"], scores["OF1"]) == pytest.approx(tuple(100 * v for v in micro[:3]))
    expected = average_precision_score(truth[:, averaged], logits[:, averaged], average="macro")
    assert result["mAPs"]["uninterpolated"] == pytest.approx(100 * expected)


@pytest.mark.parametrize("label", [-1, 0])
def test_without_positives_everything_is_none_and_json_holds_it(label):
    result = measured([[1, -1], [2, 3]], [[label, label], [label, label]])
    assert result["mAP"] is None
    assert set(result["top_3"].values()) == {None}
    assert numbers(result) == []
    assert result["classes_averaged"] == 0
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_labels_and_logits_must_agree():
    logits, labels = random_case(n=4, classes=3)
    with pytest.raises(AssertionError):
        measure(logits, labels[:3], names(3), "voc2010")
    with pytest.raises(AssertionError):
        measure(logits, labels, ["dog", "dog", "cat"], "voc2010")
    with pytest.raises(AssertionError, match="fp32"):
        measure(logits.astype(np.float64), labels, names(3), "voc2010")


@pytest.mark.parametrize(
    ("name", "near"), [("voc2011", "voc2010"), ("VOC2007", "voc2007"), ("interpolated", "uninterpolated")]
)
def test_an_unknown_headline_names_the_choices_and_the_nearest(name, near):
    with pytest.raises(InputError, match=f"(?s){name}.*did you mean '{near}'.*voc2010, voc2007, uninterpolated"):
        measured([[1]], [[1]], name)


def test_a_headline_near_nothing_gets_no_suggestion():
    with pytest.raises(InputError) as error:
        measured([[1]], [[1]], "top-1 accuracy")
    assert "mean" not in str(error.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_fail_naming_the_first_row(bad):
    logits, labels = random_case(n=9, classes=3)
    logits[5, 1] = logits[7, 0] = bad
    with pytest.raises(RunFailed, match=rf"2 of 9 images.*row 5 .*'class 1' has logit {bad}"):
        measured(logits, labels)


def test_devkit_files_hold_each_fp32_score_exactly():
    bits = np.random.default_rng(0).integers(0, 2**32, 20_000, dtype=np.uint32)
    scores = bits.view(np.float32)[np.isfinite(bits.view(np.float32))]
    ids = [f"{i:06d}" for i in range(len(scores))]
    lines = devkit_lines(ids, scores).splitlines()
    assert [line.split(" ")[0] for line in lines] == ids
    read = np.array([np.float32(line.split(" ")[1]) for line in lines], dtype=np.float32)
    np.testing.assert_array_equal(read, scores)


def test_devkit_line():
    scores = np.array([[0, 0.25], [0, -1.5]], dtype=np.float32)
    assert devkit_lines(["000001", "000002"], scores[:, 1]) == "000001 0.25\n000002 -1.5\n"


def test_devkit_lines_need_an_id_for_every_score():
    with pytest.raises(ValueError, match="argument 2 is longer"):
        devkit_lines(["000001"], np.zeros(2, dtype=np.float32))


@given(predictions())
def test_results_are_plain_and_within_bounds(prediction):
    result = measured(*prediction)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert all(0 <= value <= 100 for value in numbers(result))
    if result["mAP"] is not None:
        assert result["mAPs"]["voc2010"] >= result["mAPs"]["uninterpolated"]


@given(predictions())
def test_each_class_is_ranked_on_its_own(prediction):
    logits, labels = prediction
    result = measured(logits, labels)
    for c, of_class in enumerate(result["ap"].values()):
        for name, value in average_precisions(logits[:, c], labels[:, c]).items():
            assert of_class[name] == (None if np.isnan(value) else 100 * value)


@given(predictions())
def test_a_monotone_map_that_keeps_zero_changes_nothing(prediction):
    logits, labels = prediction
    assert measured(logits**3 * 2, labels) == measured(logits, labels)


@given(predictions(distinct=True), st.randoms(use_true_random=False))
def test_the_order_of_the_images_does_not_count(prediction, random):
    logits, labels = prediction
    order = random.sample(range(len(labels)), len(labels))
    assert measured(logits[order], labels[order]) == measured(logits, labels)


@given(predictions(), st.integers(-9, 9))
def test_the_logits_of_difficult_entries_change_only_whom_the_top_3_displaces(prediction, value):
    logits, labels = prediction
    changed = np.where(labels == 0, np.float32(value), logits)
    before, after = measured(logits, labels), measured(changed, labels)
    assert {**after, "top_3": None} == {**before, "top_3": None}
    if logits.shape[1] <= 3:
        assert after == before


@given(predictions())
def test_top_3_claims_no_more_than_the_threshold_does(prediction):
    result = measured(*prediction)
    if result["mAP"] is not None:
        assert result["top_3"]["OR"] <= result["threshold_0.5"]["OR"]
        assert result["top_3"]["CR"] <= result["threshold_0.5"]["CR"]


def leaves(value: object) -> list[object]:
    if isinstance(value, dict | list):
        return [leaf for item in (value.values() if isinstance(value, dict) else value) for leaf in leaves(item)]
    return [value]


def test_a_report_holds_plain_python_values_only() -> None:
    logits = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    labels = np.random.default_rng(1).integers(-1, 2, (20, 3)).astype(np.int8)
    report = measure(logits, labels, ["a", "b", "c"], "voc2010")
    assert {type(leaf) for leaf in leaves(report)} <= {int, float, str, bool, type(None)}
