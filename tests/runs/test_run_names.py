"""Names of runs: exact ones of today and of before, no two runs under one name, runs found under their old names."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lshfm.config.changes import ONCE_COUNTED
from lshfm.config.compose import Job, compose, conf_folder
from lshfm.config.schema import Mimic, Train
from lshfm.config.stages import plan
from lshfm.config.words import rewrite
from lshfm.errors import InputError
from lshfm.runs.folder import Status
from lshfm.runs.naming import LONGEST, LONGEST_TYPED, checked_name, data_title, file_title, join, mimic_name, train_name
from lshfm.runs.older_names import older_mimic_name, older_train_name
from lshfm.runs.place import RunPlace


@cache
def trained(*words: str) -> Job[Train]:
    with conf_folder():
        return compose(Train, rewrite("train", words))


@cache
def mimicked(*words: str) -> Sequence[Job[Mimic]]:
    with conf_folder():
        return plan(rewrite("mimic", ["teacher=resnet20", "student=resnet8", *words]))[0]


MANY = [
    "schedule.cosine_epochs=500", "schedule.warmup=2", "weight_decay=0.00025", "optimizer=adamw", "momentum=0.85",
    "batch_size=24", "eval_batch_size=48",
]  # fmt: skip
OLD_AND_NEW = [
    ([], "shapes_resnet20_bce_s0", ...),
    (["seed=7", "model.pool=GMP", "loss=asl"], "shapes_resnet20_GMP_asl_s7", ...),
    (["lr=0.02", "epochs=3"], "shapes_resnet20_bce_s0_epochs-3_lr-0.02", ...),
    (["dataset.seed=4", "dataset.size=64"], "shapes_resnet20_bce_s0_size-64_seed-4", ...),
    (["model.weights=/a/b/teacher.pth"], "shapes_resnet20_bce_s0_weights-teacher", ...),
    (
        ["model.weights=runs/one/best.ckpt"],
        "shapes_resnet20_bce_s0_weights-best",
        "shapes_resnet20_bce_s0_weights-one_best",
    ),
    (["model=resnet18"], "shapes_resnet18_bce_s0", ...),
    (["model=resnet18", "model.weights=imagenet"], "shapes_resnet18_bce_s0", "shapes_resnet18_bce_s0_weights-imagenet"),
    (["model=resnet18", "model.weights=auto"], "shapes_resnet18_bce_s0", "shapes_resnet18_bce_s0_weights-auto"),
    (["dataset=voc2007", "dataset.root=x", "model.weights=imagenet"], "voc2007_resnet34_bce_s0", ...),
    (["dataset=voc2007", "dataset.root=x", "model.weights=none"], "voc2007_resnet34_bce_s0_weights-none", ...),
    (["dataset=voc2007", "dataset.root=/data/pets"], "voc2007_resnet34_bce_s0", ...),
    (["dataset=manifest", "dataset.root=/data/pets"], "manifest_resnet34_bce_s0", "pets_resnet34_bce_s0"),
    (["dataset=manifest", "dataset.root=/data/my cars/"], "manifest_resnet34_bce_s0", "my-cars_resnet34_bce_s0"),
    (["dataset=manifest", "dataset.root=/x", "dataset.name=mine"], "mine_resnet34_bce_s0", ...),
    (["dataset=coco", "dataset.root=/data/x/../birds"], "coco_resnet34_bce_s0", "birds_resnet34_bce_s0"),
    (["dataset=coco", "dataset.root=/data/coco"], "coco_resnet34_bce_s0", ...),
    (
        ["dataset=manifest", "dataset.root=/data/voc2007"],
        "manifest_resnet34_bce_s0",
        "manifest-voc2007_resnet34_bce_s0",
    ),
    (["dataset=coco2014", "dataset.root=/data/birds"], "coco2014_resnet34_bce_s0", ...),
    (["name=mine", "lr=0.5"], "mine", ...),
    (["name=mine.ckpt"], "mine.ckpt", "mine"),
    (
        MANY,
        "shapes_resnet20_bce_s0_batch_size-24_eval_batch_size-48_optimizer-adamw_momentum-0.85_weight_decay-0.00025_"
        "cosine_epochs-500_warmup-2",
        "shapes_resnet20_bce_s0_batch_size-24_eval_batch_size-48_optimizer-adamw_momentum-0.85_weight_decay-0.00025_cosi"
        "_DIGEST",
    ),
]


@pytest.mark.parametrize(("words", "old", "new"), OLD_AND_NEW, ids=lambda value: str(value)[:40])
def test_names_of_before_and_of_today(words: list[str], old: str, new: Any) -> None:
    job = trained(*words)
    assert older_train_name(job) == old
    found = train_name(job, also=ONCE_COUNTED)
    assert re.sub(r"_[0-9a-f]{8}$", "_DIGEST", found) == (old if new is ... else new)
    assert len(found) <= LONGEST


PETS = ("dataset=manifest", "dataset.root=/data/pets", "teacher=t", "student=resnet18")


@pytest.mark.parametrize(
    ("words", "old", "new"),  # those on the embedded set without what they begin with
    [
        (["loss=l2"], "l2_s0_stage2", ...),
        (["loss=l2", "name=mine.ckpt"], "mine.ckpt_stage2", "mine_stage2"),
        (["loss=l2", "label_loss=asl"], "l2_s0_stage2_label_loss-asl", ...),
        (["loss=lsh", "loss.std=0.5"], "lsh_s0_stage2_std-0.5", "lsh_s0_stage2_loss.std-0.5"),
        (["loss=[l2,kl]", "loss.l2.weight=2"], "l2-kl_s0_stage2_weight-2", "l2-kl_s0_stage2_loss.l2.weight-2"),
        (["loss=l2", "loss.l2.weight=2"], "l2_s0_stage2_weight-2", ...),
        (["loss=l2", "loss.beta=3"], "l2_s0_stage2_beta-3", ...),
        (["loss=l2", "stage1.loss.beta=3"], "l2_s0_stage2_beta-3", "l2_s0_stage2_stage1-loss.beta-3"),
        (["loss=l2", *PETS], "manifest_t_resnet18_l2_s0_stage2_teacher-t", "pets_t_resnet18_l2_s0_stage2_teacher-t"),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_names_of_a_stage(words: list[str], old: str, new: Any) -> None:
    job, teacher = mimicked(*words)[-1], "t" if "teacher=t" in words else "resnet20"
    start = "shapes_resnet20_resnet8_" if old.startswith("l") else ""
    assert older_mimic_name(job, teacher) == start + old
    assert mimic_name(job, teacher) == start + (old if new is ... else new)


def test_weights_of_a_users_own_network_are_shown_where_they_are_no_default(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/own.yaml").write_text("_target_: own.network\nweights: none\n")
    (tmp_path / "model/asks.yaml").write_text("_target_: own.network\nweights: ${dataset.preset.weights}\n")

    def name(model: str, weights: str) -> str:
        words = [f"model={model}", f"model.weights={weights}", "dataset=voc2007", "dataset.root=x"]
        with conf_folder([tmp_path]):
            return train_name(compose(Train, rewrite("train", words)))

    assert name("own", "imagenet") == "voc2007_own_bce_s0_weights-imagenet"
    assert name("asks", "imagenet") == "voc2007_asks_bce_s0"


@pytest.mark.parametrize(
    ("path", "title"),
    [
        ("outputs/train/a/best.ckpt", "a_best"), ("best.ckpt", f"{Path.cwd().name}_best"), ("/best.ckpt", "best"),
        ("checkpoints/a.ckpt", "a"), ("/x/net.v2.pth", "net.v2"), ("x/last.ckpt", "x_last"),
        ("x/last-1.ckpt", "x_last-1"), ("x/lasting.ckpt", "lasting"),
    ],
)  # fmt: skip
def test_files_in_names(path: str, title: str) -> None:
    assert file_title(Path(path)) == title


@pytest.mark.parametrize(
    ("name", "root", "title"),
    [
        ("boxes", "/a/b", "b"), ("coco_detection", "/a/c", "c"),
        ("manifest", "/a/b", "b"), ("manifest", "b", "b"), ("manifest", ".", Path.cwd().name),
        ("manifest", "/", "manifest"),
        ("manifest", "/a/..", "manifest"), ("manifest", None, "manifest"), ("manifest", 5, "manifest"),
        ("manifest", "/a/.hidden", "hidden"), ("manifest", "/a/üü", "manifest"), ("manifest", "~", "manifest"),
        ("manifest", "/a/shapes", "manifest-shapes"), ("coco", "/a/coco2014", "coco-coco2014"),
        ("shapes", "/a/b", "shapes"),
    ],
)  # fmt: skip
def test_a_data_set_by_its_folder(name: str, root: Any, title: str) -> None:
    assert data_title(name, root) == title


@pytest.mark.parametrize(("typed", "name"), [("a", "a"), ("a.ckpt", "a"), ("a.ckpt.ckpt", "a"), ("A" * 180, "A" * 180)])
def test_typed_names(typed: str, name: str) -> None:
    assert checked_name(typed) == name


@pytest.mark.parametrize("typed", [".ckpt", "", "a/b.ckpt", "_a", "A" * (LONGEST_TYPED + 1)])
def test_names_that_are_refused(typed: str) -> None:
    with pytest.raises(InputError, match="letters, digits"):
        checked_name(typed)


TEXTS = st.text("ab -_,", min_size=1, max_size=3)
SETTINGS: dict[str, Any] = {  # dotted key -> values that are no defaults
    "lr": st.floats(1e-6, 9).filter(lambda value: value != 0.1),
    "epochs": st.integers(11, 500),
    "batch_size": st.integers(1, 31),
    "weight_decay": st.floats(1e-3, 1),
    "optimizer": st.just("adamw"),
    "momentum": st.floats(0, 0.89),
    "ema": st.floats(0.001, 0.999),
    "schedule.steps": st.lists(st.floats(0, 99) | st.integers(1, 99).map(float), min_size=1, max_size=3),
    "precision": st.just("bf16"),
    "freeze": st.sampled_from([["bn_stats"], ["bn_affine"], ["bn_stats", "bn_affine"], ["backbone"]]),
    "model.weights": st.sampled_from(["imagenet", "auto", "a/b.pth", "a/c.pth", "a/best.ckpt", "b/best.ckpt"]),
    "model.classes": st.lists(TEXTS, min_size=1, max_size=3),
    "loss.gamma_neg": st.floats(0, 9),
    "dataset.size": st.integers(33, 999),
    "dataset.train_split": TEXTS,
    "dataset.classes": st.lists(TEXTS, max_size=3),
    "dataset.std": st.lists(st.floats(0.1, 1), min_size=3, max_size=3),
}
changes = st.fixed_dictionaries({}, optional=SETTINGS)
STEMS = st.sampled_from(
    [
        ("dataset=shapes",), ("seed=1",), ("model=resnet18",), ("model.pool=GMP",), ("loss=asl",),
        ("dataset=manifest", "dataset.root=/data/pets"), ("dataset=manifest", "dataset.root=/data/voc2007"),
        ("dataset=voc2007", "dataset.root=x"), ("dataset=coco", "dataset.root=/data/voc2007"),
    ]
)  # fmt: skip


def with_changes(stem: tuple[str, ...], changed: dict[str, Any]) -> Job[Train]:
    """A job in which these keys were set, in the order of the configuration."""
    return replace(trained(*stem), changed={key: changed[key] for key in SETTINGS if key in changed})


@given(STEMS, changes, STEMS, changes)
def test_two_runs_never_have_one_name(
    one: tuple[str, ...], a: dict[str, Any], two: tuple[str, ...], b: dict[str, Any]
) -> None:
    names = [train_name(with_changes(stem, changed)) for stem, changed in ((one, a), (two, b))]
    is_one_run = one == two and str(_settled(one, a)) == str(_settled(two, b))
    assert (names[0] == names[1]) is is_one_run
    assert all(len(name) <= LONGEST and checked_name(name) == name for name in names)


def _settled(stem: tuple[str, ...], changed: dict[str, Any]) -> dict[str, Any]:
    """Changes but for weights that are the default: auto means imagenet where the data set asks for either."""
    in_order = {key: changed[key] for key in SETTINGS if key in changed}
    asks_for_them = "dataset=shapes" not in stem and stem[0].startswith("dataset=")
    if asks_for_them and in_order.get("model.weights") in ("auto", "imagenet"):
        del in_order["model.weights"]
    return in_order


@given(STEMS, changes, st.booleans(), st.booleans())
def test_a_run_under_its_old_name_goes_on_there(
    stem: tuple[str, ...], changed: dict[str, Any], is_other: bool, is_new_there: bool
) -> None:
    job = with_changes(stem, changed)
    old, new = older_train_name(job), train_name(job)
    identity = {"data.train": "abc", **job.changed}
    with TemporaryDirectory() as folder:
        settings = replace(job.settings, output_dir=f"{folder}/outputs", checkpoint_dir=f"{folder}/checkpoints")
        there = Path(folder, "outputs/train", old)
        there.mkdir(parents=True)
        (there / "identity.json").write_text(json.dumps(identity | {"data.train": "other"} if is_other else identity))
        (there / "last.ckpt").touch()
        if is_new_there:
            Path(folder, "outputs/train", new).mkdir(exist_ok=True)
        place = RunPlace.of(settings, new, identity, older=[old])
        goes_on = old != new and not is_other and not is_new_there
        name = old if goes_on else new
        assert place.folder.path.name == name
        assert place.checkpoint == Path(folder, "checkpoints", f"{name}.ckpt")
        if goes_on:
            assert place.status() is Status.UNFINISHED


@pytest.mark.parametrize("content", ["", "[]", "{", '{"data.train": "other"}'])
def test_what_is_no_old_run_of_this_is_left_alone(tmp_path: Path, content: str) -> None:
    settings = replace(trained().settings, output_dir=str(tmp_path), checkpoint_dir=str(tmp_path))
    (tmp_path / "train/old").mkdir(parents=True)
    (tmp_path / "train/old/identity.json").write_text(content)
    assert RunPlace.of(settings, "new", {"data.train": "abc"}, older=["old"]).folder.path.name == "new"
    assert (tmp_path / "train/old/identity.json").read_text() == content


def test_names_of_everyday_runs_stay_as_they_were() -> None:
    words: list[list[str]] = [
        [], ["model=resnet8"], ["epochs=3"], ["augment.flip=0"], ["freeze=[bn_stats]"], ["dataset.holdout=0.1"],
        ["ema=0.9997"], ["schedule.steps=[3,6]", "schedule.cosine_epochs=0"], ["dataset.mean=[0.5,0.5,0.5]"],
    ]  # fmt: skip
    jobs = [trained(*each) for each in words]
    names = [train_name(job) for job in jobs]
    assert names == [older_train_name(job) for job in jobs]
    assert all(a != b for a, b in combinations(names, 2))


def test_keys_without_a_result_are_in_no_name() -> None:
    job = trained("eval_batch_size=7", "allow_test=true", "log_every=3", "workers=1", "epochs=3")
    assert train_name(job) == train_name(trained("epochs=3"))
    assert train_name(job, also=ONCE_COUNTED) == "shapes_resnet20_bce_s0_epochs-3_eval_batch_size-7_allow_test-true"


def test_a_key_is_written_out_where_another_ends_alike() -> None:
    assert join("x", {"a.w": 1}, ["a.w", "b.c"]) == "x_w-1"
    assert join("x", {"a.w": 1}, ["a.w", "b.w"]) == "x_a.w-1"
    assert join("x", {"a.w": 1, "b.w": 2}) == "x_a.w-1_b.w-2"
    assert join("x", {"loss.terms.kl.t": 1}) == "x_loss.terms.kl.t-1"
    assert join("x", {"loss.t": 1}, ["loss.t", "loss.terms.kl.t"]) == "x_t-1"


def test_values_that_lose_characters_are_told_apart() -> None:
    shown = [["a", "b"], ["a-b"], ["a b"], "a b", "a,b", ["a", "b", ""]]
    names = [join("x", {"k": value}) for value in shown]
    assert len(set(names)) == len(names)
    assert names[0] == "x_k-a-b"
    assert join("x", {"k": "a-b"}) == "x_k-a-b"  # a text, which no list is a value of the same key with
