"""Runs grouped by their settings."""

import pytest

from lshfm.report.arms import ALONE, METHOD, STAGE1, TEACHER, arms_of, drawn_of, reference_of, spread_of
from lshfm.report.facts import UNFINISHED
from tests.report.facts import a_run, a_student


def story() -> list[object]:
    """A teacher, the student alone and two methods, with two seeds each, as one runs them."""
    runs = []
    for seed in (0, 1):
        runs += [
            a_run(f"teacher_s{seed}", network="resnet20", seed=seed, score=70.0 + seed, settings={"model": "resnet20"}),
            a_run(f"alone_s{seed}", seed=seed, score=40.0 + 2 * seed, settings={"model": "resnet8"}),
        ]
        for loss in ("l2", "lsh"):
            given = {"seed": seed, "teacher": f"teacher_s{seed}", "loss": loss}
            runs += [a_student(f"{loss}_s{seed}_1", stage="1", **given), a_student(f"{loss}_s{seed}_2", **given)]  # type: ignore[arg-type]
    return runs


def test_seeds_of_a_setting_are_one_arm_although_their_teachers_are_others() -> None:
    """Each seed has a teacher of its own, whose digest stands in the identity."""
    arms = arms_of(story())  # type: ignore[arg-type]
    assert [(arm.title, arm.role, len(arm.runs)) for arm in arms] == [
        ("teacher resnet20", TEACHER, 2),
        ("resnet8 alone", ALONE, 2),
        ("resnet8 after stage 1, l2", STAGE1, 2),
        ("resnet8 after stage 1, lsh", STAGE1, 2),
        ("resnet8 mimicking, l2", METHOD, 2),
        ("resnet8 mimicking, lsh", METHOD, 2),
    ]
    alone = arms[1].score
    assert alone
    assert (alone.mean, alone.deviation, alone.number) == (41.0, pytest.approx(2**0.5), 2)
    assert reference_of(arms) == arms[1]
    assert arms[2].colour == arms[4].colour != arms[5].colour
    assert arms[2].score is None  # its classifier is untrained


def test_arms_of_one_title_are_told_apart_by_what_differs() -> None:
    runs = [a_student(f"b{beta}", settings={"loss.beta": beta}) for beta in (1, 3)]
    assert [arm.title for arm in arms_of(runs)] == [
        "resnet8 mimicking, l2, beta=1",
        "resnet8 mimicking, l2, beta=3",
    ]


def test_one_seed_twice_is_two_arms() -> None:
    runs = [a_student("a", teacher="x"), a_student("b", teacher="y", settings={"teacher": "f" * 64})]
    assert [len(arm.runs) for arm in arms_of(runs)] == [1, 1]
    assert len({arm.title for arm in arms_of(runs)}) == 2


def test_a_run_that_did_not_finish_is_in_its_arm_but_not_in_the_mean() -> None:
    runs = [a_run("a", seed=0, score=50.0), a_run("b", seed=1, score=10.0, state=UNFINISHED)]
    (arm,) = arms_of(runs)
    assert arm.score
    assert (len(arm.runs), arm.score.mean, arm.score.deviation) == (2, 50.0, None)


def test_an_evaluation_beside_a_teacher_completes_its_run() -> None:
    beside = a_run("e", command="eval", checkpoint="a", report={"mimicry": {"angle": 46.0}})
    (arm,) = arms_of([a_run("a"), beside])
    assert (len(arm.runs), arm.runs[0].mimicry) == (1, {"angle": 46.0})


def test_what_is_no_number_is_left_out_of_a_mean() -> None:
    assert spread_of([None, True, "3"]) is None
    found = spread_of([1, None, 3.0])
    assert found
    assert (found.mean, found.number) == (2.0, 2)


def test_drawings_show_the_best_of_many_beside_teacher_and_student_alone() -> None:
    runs = [a_student(f"b{beta}", score=float(beta), settings={"loss.beta": beta}) for beta in range(12)]
    arms = arms_of([a_run("teacher_s0", network="resnet20", score=70.0), a_run("alone", score=1.0), *runs])
    drawn = drawn_of(arms, 5)
    assert [arm.role for arm in drawn] == [TEACHER, ALONE, METHOD, METHOD, METHOD]
    assert [arm.runs[0].name for arm in drawn[2:]] == ["b9", "b10", "b11"]


def test_a_setting_that_follows_another_is_not_named_beside_it() -> None:
    runs = [a_student(f"e{n}", settings={"epochs": n, "schedule.cosine_epochs": float(n)}) for n in (2, 5)]
    assert [arm.title for arm in arms_of(runs)] == [f"resnet8 mimicking, l2, epochs={n}" for n in (2, 5)]
