"""Names of runs tell runs apart and can be typed back."""

import re
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lshfm.config.compose import Job, compose, conf_folder
from lshfm.config.groups import LabelLoss, Network
from lshfm.config.schema import Train
from lshfm.config.words import rewrite
from lshfm.errors import InputError
from lshfm.runs.naming import LONGEST, LONGEST_TYPED, checked_name, join, train_name

PLAIN = re.compile(r"[A-Za-z0-9._-]+")


def job(*overrides: str) -> Job[Train]:
    with conf_folder():
        return compose(Train, rewrite("train", overrides))


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], "shapes_resnet20_bce_s0"),
        (["seed=7", "model.pool=GMP", "loss=asl"], "shapes_resnet20_GMP_asl_s7"),
        (["model=resnet8x4", "model.pool=GAP", "epochs=10"], "shapes_resnet8x4_bce_s0"),
        (["lr=0.02"], "shapes_resnet20_bce_s0_lr-0.02"),
        (["lr=0.02", "epochs=3", "seed=1"], "shapes_resnet20_bce_s1_epochs-3_lr-0.02"),
        (["epochs=3", "schedule.cosine_epochs=10"], "shapes_resnet20_bce_s0_epochs-3_cosine_epochs-10"),
        (["schedule.steps=[3,6]", "schedule.cosine_epochs=0"], "shapes_resnet20_bce_s0_cosine_epochs-0_steps-3-6"),
        (["freeze=[bn_stats,backbone]"], "shapes_resnet20_bce_s0_freeze-bn_stats-backbone"),
        (["channels_last=false", "weight_decay=1e-5"], "shapes_resnet20_bce_s0_channels_last-false_weight_decay-1e-05"),
        (["dataset.seed=4", "dataset.size=64"], "shapes_resnet20_bce_s0_size-64_seed-4"),
        (["model.weights=/a/b/teacher.pth"], "shapes_resnet20_bce_s0_weights-teacher"),
        (["model.projection=64"], "shapes_resnet20_bce_s0_projection-64"),
        (["model=timm", "model.arch=resnet26d", "model.weights=none"], "shapes_resnet26d_bce_s0"),
        (["model=timm", "model.arch=vit", "model.pool=GAP"], "shapes_vit_bce_s0_pool-GAP"),  # not the network's own
        (["model.arch=resnet32"], "shapes_resnet20_bce_s0_arch-resnet32"),
        (["name=mine", "lr=0.5"], "mine"),
        (["gpus=[]", "workers=3", "output_dir=x", "dataset.cache=off", "log_every=9"], "shapes_resnet20_bce_s0"),
        (["dataset=voc2007", "dataset.root=/data/x"], "voc2007_resnet34_bce_s0"),
        (["dataset=voc2007", "dataset.root=x", "model.weights=imagenet"], "voc2007_resnet34_bce_s0"),
        (["dataset=voc2007", "dataset.root=x", "model.weights=none"], "voc2007_resnet34_bce_s0_weights-none"),
        (["dataset=coco2014", "dataset.root=x", "model=resnet101", "model.pool=GWP"], "coco2014_resnet101_GWP_bce_s0"),
    ],
)
def test_names(overrides: list[str], name: str) -> None:
    assert train_name(job(*overrides)) == name


DEFAULT = job()
SETTINGS: dict[str, Any] = {  # dotted key -> values that are no defaults
    "lr": st.floats(1e-6, 9).filter(lambda x: x != 0.1),
    "epochs": st.integers(11, 500),
    "momentum": st.floats(0, 0.89),
    "schedule.steps": st.lists(st.integers(1, 99), min_size=1, max_size=3),
    "dataset.size": st.integers(33, 999),
    "precision": st.just("bf16"),
    "ema": st.floats(0.001, 0.999),
    "loss.gamma_neg": st.floats(0, 9),
    "dataset.train_split": st.text("abc019", min_size=1, max_size=4),
}
changes = st.fixed_dictionaries({}, optional=SETTINGS)


def named(changed: dict[str, Any]) -> str:
    in_order = {key: changed[key] for key in SETTINGS if key in changed}  # a job's are in the configuration's order
    return train_name(replace(DEFAULT, changed=in_order))


@given(changes, changes)
@example({"lr": 1.0000000000000002e-06}, {"lr": 1e-06})
def test_different_settings_have_different_names(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert (named(a) == named(b)) is (a == b)


@example({"init": "~no_such_user/a.ckpt"})
@given(st.dictionaries(st.text(max_size=9), st.none() | st.booleans() | st.floats() | st.text() | st.lists(st.text())))
def test_names_hold_plain_characters_whatever_the_values(changed: dict[str, Any]) -> None:
    name = join("stem/with space", changed)
    assert PLAIN.fullmatch(name)
    assert name.startswith("stem-with-space")
    assert len(name) <= LONGEST
    assert checked_name(name) == name  # can be typed back


@given(st.text(), st.text(), st.text())
def test_a_users_names_do_not_lead_out_of_the_folder(dataset: str, model: str, loss: str) -> None:
    settings = replace(
        DEFAULT.settings,
        dataset=replace(DEFAULT.settings.dataset, name=dataset),
        model=Network(None, {"pool": "GMP"}, name=model),
        loss=LabelLoss(None, name=loss),
    )
    assert PLAIN.fullmatch(train_name(Job(settings, {})))


def test_long_names_are_cut_and_stay_apart() -> None:
    names = {join("stem", {"dataset.classes": ["c" * 400, str(i)]}) for i in range(5)}
    assert len(names) == 5
    assert {len(name) for name in names} == {LONGEST}


def test_a_last_name_that_comes_twice_is_written_out() -> None:
    assert join("x", {"dataset.seed": 1, "loss.seed": 2, "lr": 0.5}) == "x_dataset.seed-1_loss.seed-2_lr-0.5"


def test_networks_without_a_name_or_pooling_of_their_own() -> None:
    def network(name: str | None = None, **model: Any) -> str:
        return Network("mine", model, name=name).title

    assert [network(), network(pool=None), network(pool="GAP"), network(pool="GMP")] == [
        "mine",
        "mine",
        "mine",
        "mine_GMP",
    ]
    assert network(name="its", pool="GWP") == "its_GWP"


@pytest.mark.parametrize("name", ["a", "run_1.2-b", "0", "A" * LONGEST_TYPED, "x."])
def test_plain_names_are_taken(name: str) -> None:
    assert checked_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".x", "-x", "a/b", "../x", "_x", "a b", "a=b", "å", "a\n", "A" * (LONGEST_TYPED + 1)]
)
def test_others_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="letters, digits"):
        checked_name(name)


def test_samples_of_settings_have_pairwise_different_names() -> None:
    samples = [
        [],
        ["lr=0.01000001"],
        ["lr=0.01000002"],
        ["model.pool=GMP"],
        ["seed=1"],
        ["loss=asl"],
        ["model=resnet8"],
    ]
    names = [train_name(job(*sample)) for sample in samples]
    assert all(a != b for a, b in combinations(names, 2))
