"""What overrides become: plain values, the options chosen, and what was changed."""

from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from lshfm.config.compose import Job, changes_results, compose, conf_folder, flatten, peek, to_yaml
from lshfm.config.launch import options
from lshfm.errors import InputError

NEEDS = {"timm": ["model.arch=resnet26d"], "shapes": []}  # what an option asks of the user
FIELDS = ["voc2007", "coco", "coco2014", "manifest"]


def composed(command: str, *overrides: str, saved: dict[str, Any] | None = None) -> Job:
    with conf_folder():
        return compose(command, overrides, saved)


def is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(type(name) is str and is_plain(item) for name, item in value.items())
    if isinstance(value, list):
        return all(map(is_plain, value))
    return value is None or type(value) in (bool, int, float, str)


LABEL_LOSSES, MIMIC_LOSSES = ["asl", "bce"], ["kl", "kl_sigmoid", "l1", "l2", "lsh", "lshl2"]
ALL_OPTIONS = [(group, option) for group in ("dataset", "model") for option in options(group)]
ALL_OPTIONS += [("loss", option) for option in LABEL_LOSSES]


@pytest.mark.parametrize(("group", "option"), ALL_OPTIONS)
def test_every_option_composes_to_plain_values(group: str, option: str) -> None:
    needs = NEEDS.get(option, ["dataset.root=DIR"] if group == "dataset" else [])
    job = composed("train", f"{group}={option}", *needs)
    assert is_plain(job.values)
    assert job.choices[group] == option
    assert job.values[group]["_target_"].startswith("lshfm.")
    assert {key for key in job.changed if changes_results("train", key)} <= {"model.arch"}


def test_nothing_given_is_the_small_default() -> None:
    job = composed("train")
    assert job.choices == {"dataset": "shapes", "model": "resnet20", "loss": "bce", "experiment": None}
    assert job.changed == {}
    chosen = [job.values[key] for key in ("epochs", "batch_size", "lr", "weight_decay", "seed")]
    assert chosen == [10, 32, 0.1, 1e-4, 0]
    assert job.values["schedule"] == {"cosine_epochs": 10, "steps": [], "warmup": 0, "initial_lr": 0}
    assert "hydra" not in job.values


@pytest.mark.parametrize(
    ("dataset", "batch_size", "eval_batch_size", "weight_decay", "metric"),
    [
        ("voc2007", 16, 64, 1e-5, "voc2010"),
        ("coco2014", 32, 32, 1e-4, "uninterpolated"),
        ("coco", 32, 32, 1e-4, "uninterpolated"),
        ("manifest", 16, 64, 1e-5, "uninterpolated"),
    ],
)
def test_a_data_set_brings_its_published_defaults(
    dataset: str, batch_size: int, eval_batch_size: int, weight_decay: float, metric: str
) -> None:
    job = composed("train", f"dataset={dataset}", "dataset.root=DIR")
    values = job.values
    assert (values["batch_size"], values["eval_batch_size"], values["weight_decay"]) == (
        batch_size,
        eval_batch_size,
        weight_decay,
    )
    assert (values["epochs"], values["lr"], values["schedule"]["cosine_epochs"]) == (60, 0.01, 60)
    assert (values["dataset"]["size"], values["dataset"]["metric"]) == (448, metric)
    assert (values["model"]["arch"], values["model"]["weights"]) == ("resnet34", "auto")


def test_a_typed_network_wins_over_the_data_sets_own() -> None:
    for order in (["model=resnet18", "dataset=voc2007"], ["dataset=voc2007", "model=resnet18"]):
        assert composed("train", *order, "dataset.root=DIR").values["model"]["arch"] == "resnet18"


@pytest.mark.parametrize("dataset", FIELDS)
def test_what_is_not_given_is_named(dataset: str) -> None:
    with pytest.raises(InputError, match=r"^not given: dataset\.root\. Add dataset\.root=\.\.\.$"):
        composed("train", f"dataset={dataset}")


def test_what_an_interpolation_waits_for_is_named() -> None:
    with pytest.raises(InputError, match=r"^not given: model\.arch\. Add model\.arch=\.\.\.$"):
        composed("train", "model=timm")


def test_all_that_is_missing_is_named_at_once() -> None:
    with pytest.raises(InputError, match=r"^not given: dataset\.root, model\.arch\."):
        composed("train", "dataset=voc2007", "model=timm")


@pytest.mark.parametrize(
    ("override", "start"),
    [
        ("epochs=-1", "epochs=-1: must be at least 1"),
        ("lr=abc", "lr=abc: must be a number"),
        ("lr=nan", "lr=nan: must be a finite number"),
        ("schedule=3", "schedule=3: must be keys"),
        ("augment=null", "augment=None: must be keys"),
        ("~lr", "lr: missing from the configuration"),
        ("~model", "model: missing from the configuration"),
        ("loss=[bce]", "loss: takes one option, not a list"),
        ("model=[resnet8,resnet14]", "model: takes one option, not a list"),
        ("+foo=1", "foo: no such key"),
        ("+schedule.step=[1]", "schedule.step: no such key (did you mean 'steps'?)"),
        ("dataset.size=0", "dataset.size=0: must be at least 1"),
        ("dataset.std=[0,1,1]", "dataset.std=0.0: must be above 0"),
        ("dataset.metric=voc2011", "dataset.metric=voc2011: must be one of"),
        ("dataset.holdout=1", "dataset.holdout=1.0: must be below 1"),
        ("dataset.preset.epochs=abc", "epochs=abc: must be a whole number"),
        ("lr=???", "not given: lr."),
    ],
)
def test_bad_values_are_refused(override: str, start: str) -> None:
    with pytest.raises(InputError) as caught:
        composed("train", override)
    assert str(caught.value).startswith(start)


def test_eval_needs_data_set_and_network_from_somewhere() -> None:
    job = composed("eval", "checkpoint=x.ckpt", "dataset=shapes", "model=resnet20")
    assert job.choices == {"dataset": "shapes", "model": "resnet20", "teacher": None}
    assert [job.values[key] for key in ("eval_batch_size", "channels_last", "teacher")] == [None, None, None]
    with pytest.raises(InputError, match=r"^not given: checkpoint"):
        composed("eval", "dataset=shapes", "model=resnet20")


@pytest.mark.parametrize(
    ("overrides", "changed"),
    [
        ([], {}),
        (["epochs=10"], {}),
        (["lr=1e-1", "batch_size=32", "dataset.size=32", "augment.flip=0.5", "schedule.steps=[]"], {}),
        (["lr=0.2"], {"lr": 0.2}),
        (["epochs=3"], {"epochs": 3}),  # the cosine follows
        (["epochs=3", "schedule.cosine_epochs=3"], {"epochs": 3}),  # as it would have without
        (["epochs=3", "schedule.cosine_epochs=10"], {"epochs": 3, "schedule.cosine_epochs": 10}),  # now it does not
        (["schedule.cosine_epochs=10"], {}),
        (["dataset.train_split=test"], {"dataset.train_split": "test"}),
        (["schedule.steps=[3,6]"], {"schedule.steps": [3, 6]}),
        (["loss=asl"], {}),  # a group's choice is no changed key
        (["loss=asl", "loss.gamma_neg=4"], {}),
        (["loss=asl", "loss.gamma_neg=2"], {"loss.gamma_neg": 2}),
        (["+loss.weight=2"], {"loss.weight": 2}),
        (["model=timm", "model.arch=vit"], {"model.arch": "vit"}),  # the name follows
        (
            ["dataset=manifest", "dataset.root=DIR", "dataset.train_split=a"],
            {"dataset.root": "DIR", "dataset.train_split": "a"},
        ),
        (["seed=3", "gpus=[]"], {"seed": 3, "gpus": []}),
    ],
)
def test_changed_is_what_would_not_follow_from_the_rest(overrides: list[str], changed: dict[str, Any]) -> None:
    assert composed("train", *overrides).changed == changed


def test_a_recipes_values_show_against_the_groups_defaults() -> None:
    job = composed("train", "experiment=coco_resnet101_GMP_baseline", "dataset.root=DIR")
    shown = {key: value for key, value in job.changed.items() if not key.startswith("recipe.")}
    assert shown == {"epochs": 30, "model.pool": "GMP", "model.weights": "imagenet", "dataset.root": "DIR"}


def test_a_typed_value_wins_over_the_recipe_and_its_cosine_stays() -> None:
    job = composed("train", "experiment=voc2007_resnet34_baseline", "dataset.root=DIR", "epochs=30", "loss=asl")
    assert (job.values["epochs"], job.values["schedule"]["cosine_epochs"]) == (30, 60)
    assert job.choices["loss"] == "asl"
    assert (job.changed["epochs"], job.changed["schedule.cosine_epochs"]) == (30, 60)


def test_saved_values_hold_where_nothing_is_typed() -> None:
    saved = {"lr": 0.3, "epochs": 7, "model.pool": "GMP", "dataset.size": 64, "dataset.unknown": 1, "nothing.at": 2}
    job = composed("train", "lr=0.5", "dataset.size=48", saved=saved | {"dataset.mean": [0.5, 0.5, 0.5]})
    assert (job.values["lr"], job.values["dataset"]["size"]) == (0.5, 48)
    assert (job.values["epochs"], job.values["model"]["pool"]) == (7, "GMP")
    assert job.values["schedule"]["cosine_epochs"] == 7
    assert job.values["dataset"]["mean"] == [0.5, 0.5, 0.5]
    assert "unknown" not in job.values["dataset"]
    assert "nothing" not in job.values


def test_saved_values_are_checked_too() -> None:
    with pytest.raises(InputError, match=r"^dataset\.size=-3: must be at least 1"):
        composed("train", saved={"dataset.size": -3})


def test_peek_reads_one_value_though_others_are_missing() -> None:
    with conf_folder():
        assert peek("eval", ["checkpoint=a.ckpt"], "checkpoint") == "a.ckpt"
        with pytest.raises(InputError, match=r"^not given: checkpoint. Add checkpoint=..."):
            peek("eval", [], "checkpoint")


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        *((key, True) for key in ("lr", "epochs", "seed", "precision", "schedule.steps", "augment.flip", "freeze")),
        *(
            (key, True)
            for key in ("dataset.size", "dataset.holdout", "dataset.skip_broken", "dataset.own", "model.pool")
        ),
        *((key, True) for key in ("loss.gamma_neg", "model.weights", "select", "ema", "channels_last", "unheard_of")),
        *(
            (key, False)
            for key in ("gpus", "workers", "output_dir", "checkpoint_dir", "name", "overwrite", "log_every")
        ),
        *(
            (key, False)
            for key in ("dataset.root", "dataset.cache", "dataset.cache_dir", "dataset.name", "dataset.devkit")
        ),
        *(
            (key, False)
            for key in ("model.name", "loss.name", "model._target_", "dataset.preset.lr", "recipe.hardware")
        ),
    ],
)
def test_what_can_change_a_number(key: str, changes: bool) -> None:
    assert changes_results("train", key) is changes


def test_every_key_of_a_job_is_known_to_change_results_or_not() -> None:
    keys = chain.from_iterable(flatten(composed("train", f"dataset={d}", "dataset.root=x").values) for d in FIELDS)
    assert {type(changes_results("train", key)) for key in keys} == {bool}


def test_flatten_and_yaml() -> None:
    values = {"a": {"b": {"c": 1}, "d": []}, "e": {}, "f": None}
    assert flatten(values) == {"a.b.c": 1, "a.d": [], "e": {}, "f": None}
    assert OmegaConf.to_container(OmegaConf.create(to_yaml(values))) == values


def test_paths_may_hold_anything(tmp_path: Path) -> None:
    odd = tmp_path / "a b=c,(d)'s"
    assert composed("train", f'dataset.cache_dir="{odd}"').values["dataset"]["cache_dir"] == str(odd)


@pytest.mark.parametrize(
    ("command", "override", "message"),
    [
        ("train", "loss=l2", "loss=l2 is a feature loss; lshfm train takes a label loss as loss"),
        ("train", "loss=kl", "loss=kl is a logit loss; lshfm train takes a label loss as loss"),
        ("mimic", "loss=bce", "loss=bce is a label loss; lshfm mimic takes a feature or logit loss as loss"),
        ("mimic", "loss=[l2,asl]", "loss=asl is a label loss; lshfm mimic takes a feature or logit loss as loss"),
        (
            "mimic",
            "loss@label_loss=l2",
            "label_loss=l2 is a feature loss; lshfm mimic takes a label loss as label_loss",
        ),
        ("mimic", "loss@label_loss=[bce,asl]", "label_loss: takes one option, not a list"),
        ("mimic", "~student", "student: missing from the configuration"),
    ],
)
def test_losses_of_a_kind_that_a_command_does_not_take(command: str, override: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        composed(command, override)
    assert str(caught.value) == message


def test_every_loss_is_one_for_labels_or_for_mimicking() -> None:
    assert sorted(LABEL_LOSSES + MIMIC_LOSSES) == options("loss")


@pytest.mark.parametrize(
    ("overrides", "teacher", "student", "weights"),
    [
        ([], "resnet20", "resnet8", "none"),
        (["dataset=voc2007", "dataset.root=DIR"], "resnet34", "resnet18", "auto"),
        (["dataset=coco2014", "dataset.root=DIR"], "resnet101", "resnet50", "auto"),
        (["model@student=resnet14"], "resnet20", "resnet14", "none"),
        (["teacher=resnet32x4"], "resnet32x4", "resnet8", "none"),
        (["dataset=voc2007", "dataset.root=DIR", "teacher=resnet50_GMP"], "resnet50", "resnet18", "auto"),
    ],
)
def test_a_data_set_brings_teacher_and_student(overrides: list[str], teacher: str, student: str, weights: str) -> None:
    job = composed("mimic", *overrides)
    assert (job.values["teacher"]["arch"], job.values["student"]["arch"]) == (teacher, student)
    assert job.values["student"]["weights"] == weights
    assert (job.values["student"]["projection"], job.values["student"]["init"]) == ("auto", None)
    assert {key for key in job.changed if changes_results("mimic", key)} <= {"dataset.root"}
    assert is_plain(job.values)
    assert "model" not in job.values


@pytest.mark.parametrize("loss", MIMIC_LOSSES)
def test_every_loss_of_mimic_is_a_named_node_of_terms(loss: str) -> None:
    job = composed("mimic", f"loss={loss}", "stage='2'")
    node = job.values["loss"][loss]
    kind = "logit" if loss.startswith("kl") else "feature"
    assert (job.choices["loss"], job.values["loss"]["name"], job.values["stage"]["name"]) == (loss, loss, "2")
    assert (node["kind"], node["weight"]) == (kind, 1.0)
    assert all(term["_target_"].startswith("lshfm.losses.") for term in node["terms"].values())
    assert (job.values["loss"]["beta"], job.values["loss"]["gamma"], job.changed) == (1.0, 1.0, {})


def test_several_losses_lie_side_by_side() -> None:
    job = composed("mimic", "loss=[l2,kl_sigmoid]", "loss.kl_sigmoid.weight=0.1", "loss.temperature=2")
    loss = job.values["loss"]
    assert (job.choices["loss"], loss["name"]) == (["l2", "kl_sigmoid"], "l2-kl_sigmoid")
    assert [loss[name]["weight"] for name in ("l2", "kl_sigmoid")] == [1.0, 0.1]
    assert loss["kl_sigmoid"]["terms"]["kl_sigmoid"]["temperature"] == 2.0
    assert job.changed == {"loss.kl_sigmoid.weight": 0.1, "loss.temperature": 2}
    alone = composed("mimic", "loss=[l2]")
    assert (alone.choices["loss"], alone.values["loss"]["name"]) == ("l2", "l2")
    with pytest.raises(InputError, match=r"^loss=\[\]: give at least one loss"):
        composed("mimic", "loss=[]")


@pytest.mark.parametrize(
    ("override", "start"),
    [
        ("loss.beta=-1", "loss.beta=-1.0: must be at least 0"),
        ("loss.hash_num=0", "loss.hash_num=0: must be at least 1"),
        ("loss.std=0", "loss.std=0.0: must be above 0"),
        ("loss.bias=midian", "loss.bias=midian: must be one of median, mean, zero (did you mean 'median'?)"),
        ("loss.form=l3", "loss.form=l3: must be one of bce, l1, l2"),
        ("student.init=[1]", "student.init=[1]: must be a text"),
    ],
)
def test_bad_values_of_mimic_are_refused(override: str, start: str) -> None:
    with pytest.raises(InputError) as caught:
        composed("mimic", override)
    assert str(caught.value).startswith(start)


def test_what_a_recipes_table_gives_is_changed_where_no_recipe_would_give_it() -> None:
    recipe = ["experiment=voc2007_resnet18_mimic", "dataset.root=DIR"]

    def changed(*words: str) -> dict[str, Any]:
        job = composed("mimic", *recipe, *words)
        return {key: value for key, value in job.changed.items() if changes_results("mimic", key)}

    given = {"student.weights": "imagenet", "student.projection": True}
    assert changed("stage='2'") == {**given, "loss.beta": 0.5, "loss.hash_num": 2048}
    assert changed("stage='1'") == {**given, "loss.hash_num": 2048}  # beta 1 holds without a recipe too
    assert changed("stage='2'", "loss=l2") == given
    assert changed("stage='2'", "loss.beta=1") == {**given, "loss.hash_num": 2048, "loss.beta": 1}
    assert changed("stage='2'", "loss=kl") == {"student.weights": "imagenet"}


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        *(
            (key, True)
            for key in ("loss.beta", "loss.hash_num", "student.projection", "teacher.pool", "loss.l2.weight")
        ),
        *((key, False) for key in ("published.1.l2.beta", "stage.name", "stage1.lr", "recipe.note", "student.name")),
    ],
)
def test_what_can_change_a_number_of_mimic(key: str, changes: bool) -> None:
    assert changes_results("mimic", key) is changes
