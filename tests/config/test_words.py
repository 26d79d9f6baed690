"""Arguments as users type them, and what Hydra hears of them."""

from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given
from hypothesis import strategies as st

from lshfm.config.catalogue import register_teachers
from lshfm.config.compose import compose, conf_folder
from lshfm.config.schema import Mimic
from lshfm.config.words import folders_of, for_stage, rewrite
from lshfm.errors import InputError

register_teachers()


def heard(*words: str) -> list[tuple[str, Any]]:
    """The keys and values that Hydra's grammar reads from rewritten words."""
    parsed = OverridesParser.create().parse_overrides(rewrite("mimic", words))
    return [(p.get_key_element().lstrip("+"), p.value()) for p in parsed]


@pytest.mark.parametrize(
    ("word", "rewritten"),
    [
        ("stage=1", ["stage='1'"]),
        ("stage='1'", ["stage='1'"]),
        ('stage="2"', ['stage="2"']),
        ("stage=both", ["stage=both"]),
        ("student=resnet8", ["model@student=resnet8"]),
        ("label_loss=asl", ["label_loss=asl"]),
        ("loss=[l2,kl_sigmoid]", ["loss=[l2,kl_sigmoid]"]),
        ("teacher=resnet101_GMP", ["teacher=resnet101_GMP"]),
        ("teacher=resnet20", ["teacher=resnet20"]),
        ("teacher=checkpoint", ["teacher=checkpoint"]),
        ("teacher=null", ["teacher=null"]),
        ("teacher=resnet101_GOP", ["teacher=checkpoint", "teacher.path='resnet101_GOP'"]),
        ("teacher=voc2007_resnet34_bce_s0", ["teacher=checkpoint", "teacher.path='voc2007_resnet34_bce_s0'"]),
        ("teacher='a b.ckpt'", ["teacher=checkpoint", "teacher.path='a b.ckpt'"]),
        ("teacher.pool=GMP", ["++teacher.pool=GMP"]),
        ("stage1.lr=0.1", ["++stage1.lr=0.1"]),
        ("stage2.schedule.steps=[3,6]", ["++stage2.schedule.steps=[3,6]"]),
        ("schedule=onecycle", ["schedule.policy=onecycle"]),
        ("schedule=3", ["schedule=3"]),
        ("stage2.schedule=onecycle", ["++stage2.schedule.policy=onecycle"]),
        ("stage1.loss=l2", ["++stage1.loss.name=l2"]),
        ("stage1.loss.beta=3", ["++stage1.loss.beta=3"]),
        ("stage2.label_loss=asl", ["++stage2.label_loss.name=asl"]),
        ("stage1.student.weights=1", ["++stage1.student.weights='1'"]),
        ("student.init=null", ["++student.init=null"]),
        ("lr=0.1", ["lr=0.1"]),
        ("~hydra/callbacks=a", ["~hydra/callbacks=a"]),
    ],
)
def test_spellings(word: str, rewritten: list[str]) -> None:
    assert rewrite("mimic", [word]) == rewritten


@pytest.mark.parametrize(
    ("words", "rewritten"),
    [
        (["a b.ckpt", "gpus=[]"], ["checkpoint='a b.ckpt'", "gpus=[]"]),
        (["-m", "seed_0", "dataset.size=16,32"], ["-m", "checkpoint='seed_0'", "++dataset.size=16,32"]),
        (["--config-dir", "folder", "a.ckpt"], ["--config-dir", "folder", "checkpoint='a.ckpt'"]),
        (["a.ckpt", "b"], ["b", "checkpoint='a.ckpt'"]),  # the second is Hydra's to refuse
        (["a", "checkpoint=b"], ["a", "checkpoint='b'"]),
    ],
)
def test_a_word_alone_is_the_checkpoint_of_eval(words: list[str], rewritten: list[str]) -> None:
    assert rewrite("eval", words) == rewritten
    assert rewrite("train", words[:1]) == words[:1]


@pytest.mark.parametrize(
    ("word", "rewritten"),
    [
        ("stage=1,2", "stage='1','2'"),
        ("stage='1','2'", "stage='1','2'"),
        ("stage=1,both", "stage='1',both"),
        ("student=resnet8,resnet14", "model@student=resnet8,resnet14"),
        ("teacher=resnet20,resnet101_GMP", "teacher=resnet20,resnet101_GMP"),
        ("loss=[l2,lsh],lshl2", "loss=[l2,lsh],lshl2"),
        ("stage1.lr=0.1,0.2", "++stage1.lr=0.1,0.2"),
        ("student.init=a.ckpt,b.ckpt", "++student.init=a.ckpt,b.ckpt"),
    ],
)
def test_sweeps(word: str, rewritten: str) -> None:
    assert rewrite("mimic", ["-m", word]) == ["-m", rewritten]
    assert OverridesParser.create().parse_override(rewritten).is_sweep_override()


@pytest.mark.parametrize("command", ["train", "mimic"])
def test_a_loss_is_one_on_labels_where_only_labels_teach(command: str) -> None:
    group = {"train": "label_loss@loss", "mimic": "loss"}[command]
    assert rewrite(command, ["loss=asl", "loss.gamma_neg=2"]) == [f"{group}=asl", "loss.gamma_neg=2"]
    assert rewrite(command, ["-m", "loss=asl,bce"]) == ["-m", f"{group}=asl,bce"]
    assert rewrite(command, ["+loss=asl"]) == [f"+{group}=asl"]


@pytest.mark.parametrize(
    ("command", "word", "message"),
    [
        ("train", "loss=[bce,bce]", "loss=[bce,bce]: an option is there twice"),
        ("train", "loss=[]", "loss=[]: takes an option's name; keys are set as loss.KEY=..."),
        ("mimic", "student={pool:GMP}", "student={pool:GMP}: takes an option's name; keys are set as student.KEY=..."),
        ("mimic", "student=[1]", "student=[1]: a list of options holds their names"),
        ("mimic", "loss=[l2,l2]", "loss=[l2,l2]: an option is there twice"),
        ("mimic", "stage1.loss=[]", "loss=[]: takes an option's name; keys are set as loss.KEY=..."),
    ],
)
def test_what_a_group_does_not_take_is_named_as_it_was_typed(command: str, word: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        rewrite(command, [word])
    assert str(caught.value) == message


def test_a_sweep_over_checkpoints_takes_each_path_as_it_is() -> None:
    flag, group, paths = rewrite("mimic", ["-m", "teacher=a b.ckpt,~/c=d.ckpt"])
    assert (flag, group, paths) == ("-m", "teacher=checkpoint", "teacher.path='a b.ckpt','~/c=d.ckpt'")
    with pytest.raises(InputError, match="a sweep is over networks or over checkpoints, not over both"):
        rewrite("mimic", ["-m", "teacher=resnet20,a.ckpt"])


TEXT = st.text("'\\\"a ,=", min_size=1) | st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1)


@given(text=TEXT)
@example(text="a\\")
@example(text="a\\b'c")
@example(text="a\\'")
def test_any_path_arrives_as_it_was_typed(text: str) -> None:
    """One that starts with a quote is the user's own quoting, so a folder comes first here."""
    assert heard(f"checkpoint=/{text}") == [("checkpoint", f"/{text}")]
    assert heard(f"teacher=/{text}") == [("teacher", "checkpoint"), ("teacher.path", f"/{text}")]


@pytest.mark.parametrize(
    "path", ["a b=c,d.ckpt", "it's (1).ckpt", 'say "x".ckpt', "~/x.ckpt", "a\\", "a\\'b", "1", "1e3"]
)
def test_odd_paths_of_every_text_key(path: str) -> None:
    for key in ("checkpoint", "dataset.root", "student.init", "student.weights", "output_dir"):
        assert heard(f"{key}={path}") == [(key, path)]
    assert heard(f"teacher={path}") == [("teacher", "checkpoint"), ("teacher.path", path)]


@pytest.mark.parametrize("key", ["teacher", "teacher.pool", "student", "dataset", "stage", "experiment"])
def test_what_both_stages_share_is_not_set_for_one(key: str) -> None:
    with pytest.raises(InputError, match=rf"^{key}: the same for both stages.*give {key}=\.\.\. alone"):
        rewrite("mimic", [f"stage1.{key}=x"])


def test_flags_come_first_and_keep_their_values() -> None:
    words = ["lr=0.1", "--config-dir", "a=b", "-m", "--cfg", "job", "seed=0,1"]
    assert rewrite("train", words) == ["--config-dir", "a=b", "-m", "--cfg", "job", "lr=0.1", "seed=0,1"]
    assert rewrite("train", []) == []


def test_what_a_checkpoint_brings_may_be_set_though_hydra_knows_no_such_key_yet() -> None:
    assert rewrite("eval", ["checkpoint=x", "dataset.root=y"])[1] == "++dataset.root='y'"
    assert rewrite("eval", ["dataset.root=y"]) == ["dataset.root='y'"]


def test_folders_of_the_users_own() -> None:
    assert folders_of(["--config-dir", "a", "lr=1", "-cd=b", "--config-dir=c=d"]) == [
        Path("a"),
        Path("b"),
        Path("c=d"),
    ]
    assert folders_of(["config-dir=a", "--config-path", "x"]) == []


OVERRIDES = [
    "dataset=shapes",
    "stage=both",
    "loss=lshl2",
    "loss.hash_num=64",
    "++stage1.lr=0.3",
    "++stage1.loss.name=l2",
    "++stage1.loss.beta=3",
    "++stage2.label_loss.name=asl",
    "++stage2.student.init='a=b'",
]


def test_a_stage_sees_its_own_keys_last_and_none_of_the_others() -> None:
    general = ["dataset=shapes", "loss=lshl2", "loss.hash_num=64"]
    assert for_stage("1", OVERRIDES) == [*general, "stage='1'", "lr=0.3", "loss=l2", "loss.beta=3"]
    assert for_stage("2", OVERRIDES) == [*general, "stage='2'", "label_loss=asl", "student.init='a=b'"]


def test_other_losses_replace_those_that_were_typed() -> None:
    words = for_stage("1", ["dataset=shapes", "loss=kl", "loss.temperature=2", "label_loss=asl"], ["l2", "lsh"])
    assert words == ["dataset=shapes", "label_loss=asl", "stage='1'", "loss=[l2,lsh]"]


def test_words_as_typed_become_a_job_of_each_stage() -> None:
    typed = ["stage1.loss=l2", "stage1.loss.beta=3", "student=resnet14", "teacher=a b.ckpt", "stage2.epochs=2"]
    with conf_folder():
        first, second = (compose(Mimic, for_stage(stage, rewrite("mimic", typed))).settings for stage in "12")
    assert [each.stage.name for each in (first, second)] == ["1", "2"]
    assert [each.loss.option for each in (first, second)] == ["l2", "lshl2"]
    assert [each.loss.beta for each in (first, second)] == [3.0, 1.0]
    assert [each.epochs for each in (first, second)] == [10, 2]
    assert [each.teacher.path for each in (first, second)] == ["a b.ckpt"] * 2
    assert first.student.own["arch"] == "resnet14"
