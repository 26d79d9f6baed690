"""A mimic command as the stages that it asks for."""

import re
from typing import Any

import pytest

from lshfm.config import stages
from lshfm.config.compose import Job
from lshfm.config.groups import MimicLoss, Teacher, Temperature
from lshfm.config.schema import Mimic
from lshfm.config.stages import stage1_losses
from lshfm.errors import InputError
from lshfm.runs.naming import mimic_name
from tests.jobs import changed, changed_job, job, jobs

pytestmark = pytest.mark.usefixtures("hydra")

PAIR = ("teacher=resnet20", "student=resnet8")
KIND = {"l1": "feature", "l2": "feature", "lsh": "feature", "lshl2": "feature", "kl": "logit", "kl_sigmoid": "logit"}


def stage(job: Job[Mimic]) -> str:
    return str(job.settings.stage.name)


def hash_num(job: Job[Mimic]) -> int | None:
    assert job.settings.loss.hashing
    return job.settings.loss.hashing.hash_num


def losses(job: Job[Mimic]) -> list[str]:
    return list(job.settings.loss.chosen)


@pytest.mark.parametrize(("words", "expected"), [(["stage=1"], ["1"]), (["stage=2"], ["2"]), ([], ["1", "2"])])
def test_the_stages_that_are_asked_for_in_their_order(words: list[str], expected: list[str]) -> None:
    found = jobs(*PAIR, *words)
    assert [stage(job) for job in found] == expected
    assert [losses(job) for job in found] == [["lshl2"]] * len(expected)
    assert {(job.settings.teacher.option, job.settings.student.option) for job in found} == {("resnet20", "resnet8")}
    assert [job.settings.student.projection for job in found] == ["auto"] * len(expected)


def test_the_data_set_chooses_teacher_and_student_where_nobody_does() -> None:
    (only,) = jobs("stage=2")
    assert (only.settings.teacher.option, only.settings.student.option) == ("resnet20", "resnet8")


def test_a_key_of_one_stage_wins_there_over_the_general_one() -> None:
    words = [
        "epochs=6",
        "stage1.epochs=2",
        "stage2.lr=0.5",
        "stage1.loss.beta=3",
        "loss.beta=2",
        "stage2.loss.hash_num=8",
    ]
    first, second = jobs(*PAIR, *words)
    assert (first.settings.epochs, second.settings.epochs) == (2, 6)
    assert (first.settings.lr, second.settings.lr) == (0.1, 0.5)
    assert (first.settings.loss.beta, second.settings.loss.beta) == (3, 2)
    assert [hash_num(each) for each in (first, second)] == [None, 8]
    assert (first.changed["epochs"], second.changed["epochs"]) == (2, 6)
    assert not any("stage" in key for key in first.changed)
    assert {key for key in second.changed if "stage" in key} == {"stage1-epochs", "stage1-loss.beta"}
    assert "lr" not in first.changed


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["stage1.loss=l2", "loss=l1", "stage2.loss=lsh"], (["l2"], ["lsh"])),
        (["loss=l1", "stage2.loss=kl"], (["l1"], ["kl"])),
        (["loss=[l1,kl_sigmoid]"], (["l1"], ["l1", "kl_sigmoid"])),
        (["loss=kl", "stage2.loss.temperature=2"], (["l2"], ["kl"])),
    ],
)
def test_losses_of_both_stages(words: list[str], expected: tuple[list[str], list[str]]) -> None:
    first, second = jobs(*PAIR, *words)
    assert (losses(first), losses(second)) == expected
    assert first.settings.loss.name == "-".join(expected[0])


@pytest.mark.parametrize(
    ("names", "first"),
    [
        (["kl"], ["l2"]),
        (["kl_sigmoid", "kl"], ["l2"]),
        (["lsh", "kl", "l2"], ["lsh", "l2"]),
        (["lshl2"], ["lshl2"]),
    ],
)
def test_stage_1_learns_by_stage_2s_losses_on_features_or_by_l2(names: list[str], first: list[str]) -> None:
    own = {name: {"kind": KIND[name], "terms": {}} for name in names}
    loss = MimicLoss(names, own, name="-".join(names), beta=1, gamma=1)
    table: dict[str, Any] = {"lshl2": {"beta": 3}, "other": {"stage1_loss": "l1"}}
    second = changed(job("stage=2").settings, {"loss": loss, "published": {"2": table}})
    assert stage1_losses(second) == first
    told = changed(second, {"published": {"2": table | {loss.name: {"stage1_loss": "l1"}}}})
    assert stage1_losses(told) == ["l1"]


def test_losses_weigh_one_each_unless_told() -> None:
    only = job("stage=2", "loss=[l2,kl_sigmoid]", "loss.kl_sigmoid.weight=0.25", "loss.beta=2")
    weights = {name: (each.kind, each.weight) for name, each in only.settings.loss.chosen.items()}
    assert weights == {"l2": ("feature", 1.0), "kl_sigmoid": ("logit", 0.25)}
    assert (only.settings.loss.beta, only.settings.loss.option) == (2, ["l2", "kl_sigmoid"])


def test_a_recipe_gives_stage_1_its_loss() -> None:
    (first, second), notes = stages.plan(["experiment=voc2007_resnet18_mimic", "dataset.root=x", "loss=lsh"])
    assert notes == []
    assert (losses(first), losses(second)) == (["lshl2"], ["lsh"])
    assert (first.settings.loss.beta, second.settings.loss.beta) == (1, 0.5)
    assert second.settings.published_row == {"beta": 0.5, "hash_num": 2048, "projection": True, "stage1_loss": "lshl2"}
    assert first.settings.published_row == {"beta": 1, "hash_num": 2048, "projection": True}


def test_a_recipe_without_a_projection_is_stage_2_alone_and_says_so() -> None:
    (only,), notes = stages.plan(["experiment=coco_resnet101_mimic", "dataset.root=x"])
    found = only.settings
    assert (stage(only), found.student.init, found.teacher.option) == ("2", "imagenet", "resnet101_GMP")
    assert notes == ["student.projection=false: there is nothing to align, so stage=both is stage 2 alone"]


def test_a_start_for_stage_2_makes_no_sense_after_a_stage_1() -> None:
    with pytest.raises(InputError, match=r"student\.init=imagenet says where stage 2 starts.*add stage=2"):
        jobs(*PAIR, "student.init=imagenet")


@pytest.mark.parametrize(
    ("number", "key", "value", "message"),
    [
        ("1", "student.projection", False, "nothing to align: stage=2 alone, or student.projection=true"),
        ("1", "student.init", "none", r"says where stage 2 starts; stage 1 starts at student\.weights"),
        ("1", "loss.l2", {"kind": "logit", "weight": 1, "terms": {}}, "loss=l2 compares logits"),
        ("2", "student.projection", 64, r"student\.projection=64: must be auto, true, false or needed"),
        ("2", "freeze", ["bn_stats", "backbone"], "leaves nothing to mimic with"),
        ("2", "teacher", Teacher(), r"not given: teacher\. Add"),
        ("2", "student._target_", None, r"not given: student\. Add"),
    ],
)
def test_what_cannot_be_is_refused(number: str, key: str, value: Any, message: str) -> None:
    chosen = job(f"stage={number}", "loss=l2")
    stages._check(chosen)
    with pytest.raises(InputError, match=message):
        stages._check(changed_job(chosen, {key: value}))


def test_keys_of_a_student_that_the_data_set_chooses() -> None:
    (only,) = jobs("stage=2", "student.pool=GMP", "student.weights=none", "teacher.pool=GWP")
    assert (only.settings.student.pool, only.settings.teacher.pool) == ("GMP", "GWP")
    first, second = jobs("stage1.student.weights=w.pth")
    assert (first.settings.student.weights, second.settings.student.weights) == ("w.pth", "none")


def test_stage_1_keeps_the_typed_keys_that_its_losses_know() -> None:
    words = ["loss=[lshl2,kl_sigmoid]", "loss.hash_num=8", "loss.beta=3", "loss.lshl2.weight=2", "loss.temperature=9"]
    first, second = jobs(*PAIR, *words)
    assert losses(first) == ["lshl2"]
    assert (hash_num(first), first.settings.loss.beta) == (8, 3)
    assert first.settings.loss.chosen["lshl2"].weight == 2
    assert second.settings.loss.temperature == Temperature(9.0)


def test_what_stage_1_alone_was_given_tells_stage_2_apart() -> None:
    names = {mimic_name(jobs(*PAIR, *words)[1], "resnet20") for words in ([], ["stage1.lr=0.1"], ["stage1.loss=l2"])}
    assert len(names) == 3
    assert any(name.endswith("_stage1-lr-0.1") for name in names)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["loss=l2", "loss.l2.weight=abc"], "loss.l2.weight=abc: must be a finite number"),
        (["loss.lshl2.weight=-1"], "loss.lshl2.weight=-1: must be a finite number"),
        (["loss.lshl2.weight=inf"], "loss.lshl2.weight=inf: must be a finite number"),
        (["stage=[1,2]"], "stage: takes one option, not a list"),
        (["stage1=3"], "stage1 takes keys, as stage1.lr=0.1"),
        (["stage2.gpus=[]"], "gpus: the same for both stages"),
    ],
)
def test_settings_that_no_stage_can_have(words: list[str], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        jobs(*PAIR, *words)


def test_a_teachers_weights_are_its_checkpoints() -> None:
    with pytest.raises(InputError, match=r"teacher\.weights: a teacher's weights are those of its checkpoint"):
        jobs(*PAIR, "teacher.weights=/nope")
