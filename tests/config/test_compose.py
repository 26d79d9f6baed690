"""What overrides become: settings of their types, the options chosen, and what was changed."""

from pathlib import Path
from typing import Any

import pytest
from hydra.errors import HydraException
from omegaconf import OmegaConf

from lshfm.config.catalogue import options
from lshfm.config.changes import changes_results
from lshfm.config.compose import Job, compose, conf_folder, peek, to_yaml
from lshfm.config.explain import explain
from lshfm.config.groups import Temperature
from lshfm.config.keys import Group, plain
from lshfm.config.schema import COMMANDS, Check, Eval, Mimic, Train
from lshfm.config.shared import Schedule
from lshfm.config.words import rewrite
from lshfm.errors import InputError
from lshfm.tasks.task import open_task

NEEDS = {"timm": ["model.arch=resnet26d"], "shapes": []}  # what an option asks of the user
FIELDS = ["voc2007", "coco", "coco2014", "manifest"]


def trained(*words: str, saved: dict[str, Any] | None = None) -> Job[Train]:
    """The job of a train command that is typed so."""
    with conf_folder():
        return compose(Train, rewrite("train", words), saved)


def mimicked(*words: str) -> Job[Mimic]:
    """The job of a mimic command that is typed so."""
    with conf_folder():
        return compose(Mimic, rewrite("mimic", words))


def chosen(settings: Train | Mimic | Eval | Check) -> dict[str, Any]:
    """The option of each group."""
    return {name: value.option for name, value in vars(settings).items() if isinstance(value, Group)}


def is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(type(name) is str and is_plain(item) for name, item in value.items())
    if isinstance(value, list):
        return all(map(is_plain, value))
    return value is None or type(value) in (bool, int, float, str)


LABEL_LOSSES, MIMIC_LOSSES = ["asl", "bce", "ce", "detector"], ["kl", "kl_sigmoid", "l1", "l2", "lsh", "lshl2"]
ALL_OPTIONS = [(group, option) for group in ("dataset", "model") for option in options(group)]
ALL_OPTIONS += [("loss", option) for option in LABEL_LOSSES]


@pytest.mark.parametrize(("group", "option"), ALL_OPTIONS)
def test_every_option_composes_to_plain_values(group: str, option: str) -> None:
    needs = NEEDS.get(option, ["dataset.root=DIR"] if group == "dataset" else [])
    job = trained(f"{group}={option}", *needs)
    assert is_plain(plain(job.settings))
    assert chosen(job.settings)[group] == option
    assert getattr(job.settings, group).target.startswith("lshfm.")
    assert {key for key in job.changed if changes_results("train", key)} <= {"model.arch"}


def test_nothing_given_is_the_small_default() -> None:
    job = trained()
    settings = job.settings
    assert chosen(settings) == {"dataset": "shapes", "model": "resnet20", "loss": "bce"}
    assert job.changed == {}
    assert (settings.epochs, settings.batch_size, settings.lr, settings.weight_decay) == (10, 32, 0.1, 1e-4)
    assert settings.seed == 0
    assert settings.schedule == Schedule(
        cosine_epochs=10, steps=[], warmup=0, warmup_steps=0, initial_lr=0, policy="cosine"
    )
    assert (settings.recipe, job.folders, job.typed) == (None, (), ())
    assert "hydra" not in plain(settings)


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
    found = trained(f"dataset={dataset}", "dataset.root=DIR").settings
    assert (found.batch_size, found.eval_batch_size, found.weight_decay) == (batch_size, eval_batch_size, weight_decay)
    assert (found.epochs, found.lr, found.schedule.cosine_epochs) == (60, 0.01, 60)
    assert (found.dataset.size, found.dataset.metric) == (448, metric)
    assert (found.model.own["arch"], found.model.weights) == ("resnet34", "auto")


def test_a_typed_network_wins_over_the_data_sets_own() -> None:
    for order in (["model=resnet18", "dataset=voc2007"], ["dataset=voc2007", "model=resnet18"]):
        assert trained(*order, "dataset.root=DIR").settings.model.own["arch"] == "resnet18"


@pytest.mark.parametrize("dataset", FIELDS)
def test_what_is_not_given_is_named(dataset: str) -> None:
    with pytest.raises(InputError, match=r"^not given: dataset\.root\. Add dataset\.root=\.\.\.$"):
        trained(f"dataset={dataset}")


def test_what_an_interpolation_waits_for_is_named() -> None:
    with pytest.raises(InputError, match=r"^not given: model\.arch\. Add model\.arch=\.\.\.$"):
        trained("model=timm")


def test_all_that_is_missing_is_named_at_once() -> None:
    with pytest.raises(InputError, match=r"^not given: dataset\.root, model\.arch\."):
        trained("dataset=voc2007", "model=timm")


@pytest.mark.parametrize(
    ("override", "start"),
    [
        ("epochs=-1", "epochs=-1: must be at least 1"),
        ("lr=abc", "lr=abc: must be a number"),
        ("lr=nan", "lr=nan: must be a finite number"),
        ("schedule=3", "schedule=3: must be keys"),
        ("augment=null", "augment=None: must be keys"),
        ("label_loss@loss=[bce]", "loss: takes one option, not a list"),
        ("model=[resnet8,resnet14]", "model: takes one option, not a list"),
        ("+foo=1", "foo: no such key"),
        ("+schedule.step=[1]", "schedule.step: no such key (did you mean 'steps'?)"),
        ("dataset.size=0", "dataset.size=0: must be at least 1"),
        ("dataset.std=[0,1,1]", "dataset.std=0.0: must be above 0"),
        ("dataset.holdout=1", "dataset.holdout=1.0: must be below 1"),
        ("dataset.preset.epochs=abc", "epochs=abc: must be a whole number"),
        ("lr=???", "not given: lr."),
    ],
)
def test_bad_values_are_refused(override: str, start: str) -> None:
    with pytest.raises(InputError) as caught:
        trained(override)
    assert str(caught.value).startswith(start)


@pytest.mark.parametrize("key", ["lr", "model"])
def test_what_is_taken_out_is_missed(key: str) -> None:
    """Nobody can type it so; a defaults list of the user's own can."""
    with conf_folder(), pytest.raises(InputError, match=rf"^{key}: missing from the configuration"):
        compose(Train, [f"~{key}"])


def test_a_metric_that_the_data_sets_task_lacks_is_refused() -> None:
    dataset = trained("dataset.metric=voc2011").settings.dataset
    with pytest.raises(InputError, match=r"^dataset\.metric=voc2011: must be one of"):
        open_task(dataset)


def test_eval_needs_data_set_and_network_from_somewhere() -> None:
    with conf_folder():
        settings = compose(Eval, ["checkpoint=x.ckpt", "dataset=shapes", "model=resnet20"]).settings
        with pytest.raises(InputError, match=r"^not given: checkpoint"):
            compose(Eval, ["dataset=shapes", "model=resnet20"])
    assert chosen(settings) == {"dataset": "shapes", "model": "resnet20", "teacher": None}
    assert (settings.eval_batch_size, settings.channels_last) == (250, None)
    assert plain(settings)["teacher"] is None


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
    assert trained(*overrides).changed == changed


def test_a_recipes_values_show_against_the_groups_defaults() -> None:
    job = trained("experiment=coco_resnet101_GMP_baseline", "dataset.root=DIR")
    shown = {key: value for key, value in job.changed.items() if not key.startswith("recipe.")}
    expected = {"epochs": 30, "model.pool": "GMP", "model.weights": "imagenet", "bn_group_size": 8}
    assert shown == expected | {"dataset.root": "DIR"}


def test_a_typed_value_wins_over_the_recipe_and_its_cosine_follows() -> None:
    job = trained("experiment=voc2007_resnet34_baseline", "dataset.root=DIR", "epochs=30", "loss=asl")
    assert (job.settings.epochs, job.settings.schedule.cosine_epochs) == (30, 30)
    assert job.settings.loss.option == "asl"
    assert job.changed["epochs"] == 30
    assert "schedule.cosine_epochs" not in job.changed
    typed = trained(
        "experiment=voc2007_resnet34_baseline", "dataset.root=DIR", "schedule.cosine_epochs=60", "epochs=30"
    )
    assert (typed.settings.schedule.cosine_epochs, typed.changed["schedule.cosine_epochs"]) == (60, 60)


def test_saved_values_hold_where_nothing_is_typed() -> None:
    saved = {"lr": 0.3, "epochs": 7, "model.pool": "GMP", "dataset.size": 64, "dataset.unknown": 1, "nothing.at": 2}
    found = trained("lr=0.5", "dataset.size=48", saved=saved | {"dataset.mean": [0.5, 0.5, 0.5]}).settings
    assert (found.lr, found.dataset.size) == (0.5, 48)
    assert (found.epochs, found.model.pool) == (7, "GMP")
    assert found.schedule.cosine_epochs == 7
    assert found.dataset.mean == [0.5, 0.5, 0.5]
    assert "unknown" not in plain(found)["dataset"]
    assert "nothing" not in plain(found)


def test_saved_values_are_checked_too() -> None:
    with pytest.raises(InputError, match=r"^dataset\.size=-3: must be at least 1"):
        trained(saved={"dataset.size": -3})


def test_peek_reads_one_value_though_others_are_missing() -> None:
    with conf_folder():
        assert peek("eval", ["checkpoint=a.ckpt"], "checkpoint") == "a.ckpt"
        with pytest.raises(InputError, match=r"^not given: checkpoint. Add checkpoint=..."):
            peek("eval", [], "checkpoint")


def test_yaml_comes_back() -> None:
    values = {"a": {"b": {"c": 1}, "d": []}, "e": {}, "f": None}
    assert OmegaConf.to_container(OmegaConf.create(to_yaml(values))) == values


def test_paths_may_hold_anything(tmp_path: Path) -> None:
    odd = tmp_path / "a b=c,(d)'s"
    assert trained(f'dataset.cache_dir="{odd}"').settings.dataset.cache_dir == str(odd)


@pytest.mark.parametrize(
    ("command", "word", "message"),
    [
        ("train", "loss=l2", "loss=l2 is a feature loss; lshfm train takes a label loss as loss"),
        ("train", "loss=kl", "loss=kl is a logit loss; lshfm train takes a label loss as loss"),
        ("mimic", "loss=bce", "loss=bce is a label loss; lshfm mimic takes a feature or logit loss as loss"),
        ("mimic", "loss=[l2,asl]", "loss=asl is a label loss; lshfm mimic takes a feature or logit loss as loss"),
        ("mimic", "label_loss=l2", "label_loss=l2 is a feature loss; lshfm mimic takes a label loss as label_loss"),
    ],
)
def test_losses_of_a_kind_that_a_command_does_not_take(
    monkeypatch: pytest.MonkeyPatch, command: str, word: str, message: str
) -> None:
    monkeypatch.setattr("sys.argv", [f"lshfm {command}", *rewrite(command, [word])])
    with conf_folder():
        with pytest.raises(HydraException) as caught:
            compose(COMMANDS[command], rewrite(command, [word]))
        assert str(explain(command, caught.value)) == message


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("label_loss=[bce,asl]", "label_loss: takes one option, not a list"),
        ("~student", "student: missing from the configuration"),
    ],
)
def test_groups_that_mimic_needs_one_option_of(override: str, message: str) -> None:
    with conf_folder(), pytest.raises(InputError) as caught:
        compose(Mimic, [override])
    assert str(caught.value) == message


def test_every_loss_is_one_for_labels_or_for_mimicking() -> None:
    of_one_label = ["at", "dkd", "hint", "kd", "lsh_s", "lshl2_s", "rkd"]
    assert (options("label_loss"), options("loss")) == (LABEL_LOSSES, sorted([*MIMIC_LOSSES, *of_one_label]))


@pytest.mark.parametrize(
    ("overrides", "teacher", "student", "weights"),
    [
        ([], "resnet20", "resnet8", "none"),
        (["dataset=voc2007", "dataset.root=DIR"], "resnet34", "resnet18", "auto"),
        (["dataset=coco2014", "dataset.root=DIR"], "resnet101", "resnet50", "auto"),
        (["student=resnet14"], "resnet20", "resnet14", "none"),
        (["teacher=resnet32x4"], "resnet32x4", "resnet8", "none"),
        (["dataset=voc2007", "dataset.root=DIR", "teacher=resnet50_GMP"], "resnet50", "resnet18", "auto"),
    ],
)
def test_a_data_set_brings_teacher_and_student(overrides: list[str], teacher: str, student: str, weights: str) -> None:
    job = mimicked(*overrides)
    found = job.settings
    assert (found.teacher.own["arch"], found.student.own["arch"]) == (teacher, student)
    assert found.student.weights == weights
    assert (found.student.projection, found.student.init) == ("auto", None)
    assert {key for key in job.changed if changes_results("mimic", key)} <= {"dataset.root"}
    assert is_plain(plain(found))
    assert "model" not in plain(found)


@pytest.mark.parametrize("loss", MIMIC_LOSSES)
def test_every_loss_of_mimic_is_a_named_node_of_terms(loss: str) -> None:
    job = mimicked(f"loss={loss}", "stage='2'")
    found = job.settings.loss
    assert (found.option, found.name, job.settings.stage.name, list(found.chosen)) == (loss, loss, "2", [loss])
    node = found.chosen[loss]
    kind = "logit" if loss.startswith("kl") else "feature"
    assert (node.kind, node.weight) == (kind, 1.0)
    assert all(term["_target_"].startswith("lshfm.losses.") for term in node.terms.values())
    assert (found.beta, found.gamma, job.changed) == (1.0, 1.0, {})


def test_several_losses_lie_side_by_side() -> None:
    job = mimicked("loss=[l2,kl_sigmoid]", "loss.kl_sigmoid.weight=0.1", "loss.temperature=2")
    loss = job.settings.loss
    assert (loss.option, loss.name) == (["l2", "kl_sigmoid"], "l2-kl_sigmoid")
    assert [loss.chosen[name].weight for name in ("l2", "kl_sigmoid")] == [1.0, 0.1]
    assert loss.chosen["kl_sigmoid"].terms["kl_sigmoid"]["temperature"] == 2.0
    assert (loss.temperature, loss.hashing) == (Temperature(2.0), None)
    assert job.changed == {"loss.kl_sigmoid.weight": 0.1, "loss.temperature": 2}
    alone = mimicked("loss=[l2]").settings.loss
    assert (alone.option, alone.name) == ("l2", "l2")
    with conf_folder(), pytest.raises(InputError, match=r"^loss=\[\]: give at least one loss"):
        compose(Mimic, ["loss=[]"])


@pytest.mark.parametrize(
    ("override", "start"),
    [
        ("loss.beta=-1", "loss.beta=-1.0: must be at least 0"),
        ("loss.hash_num=0", "loss.hash_num=0: must be at least 1"),
        ("loss.std=0", "loss.std=0.0: must be above 0"),
        ("loss.bias=midian", "loss.bias=midian: must be one of median, mean, zero (did you mean 'median'?)"),
        ("loss.form=l3", "loss.form=l3: must be one of bce, l1, l2"),
    ],
)
def test_bad_values_of_mimic_are_refused(override: str, start: str) -> None:
    with pytest.raises(InputError) as caught:
        mimicked(override)
    assert str(caught.value).startswith(start)


def test_a_text_that_would_be_an_interpolation_is_refused() -> None:
    with conf_folder(), pytest.raises(InputError, match=r"^name=\$\{x\}: must be a text"):
        compose(Train, [r"name='\${x}'"])


def test_a_start_is_a_text() -> None:
    with conf_folder(), pytest.raises(InputError, match=r"^student\.init=\[1\]: must be a text"):
        compose(Mimic, ["student.init=[1]"])


def test_what_a_recipes_table_gives_is_changed_where_no_recipe_would_give_it() -> None:
    recipe = ["experiment=voc2007_resnet18_mimic", "dataset.root=DIR"]

    def changed(*words: str) -> dict[str, Any]:
        job = mimicked(*recipe, *words)
        return {key: value for key, value in job.changed.items() if changes_results("mimic", key)}

    given = {"student.weights": "imagenet", "student.projection": True, "bn_group_size": 4}
    assert changed("stage='2'") == {**given, "loss.beta": 0.5, "loss.hash_num": 2048}
    assert changed("stage='1'") == {**given, "loss.hash_num": 2048}  # beta 1 holds without a recipe too
    assert changed("stage='2'", "loss=l2") == given
    assert changed("stage='2'", "loss.beta=1") == {**given, "loss.hash_num": 2048, "loss.beta": 1}
    assert changed("stage='2'", "loss=kl") == {"student.weights": "imagenet", "bn_group_size": 4}


def test_keys_of_losses_that_the_data_set_chooses() -> None:
    """They are known once the data set is; keys that its losses do not have are refused all the same."""
    with conf_folder():
        chosen = compose(Train, ["dataset=cifar100", "dataset.root=/x", "loss.class_weights=auto"]).settings.loss
        words = ["dataset=cifar100", "dataset.root=/x", "stage='2'", "label_loss.label_smoothing=0.1"]
        mimic = compose(Mimic, words).settings
        with pytest.raises(HydraException, match=r"loss\.nosuch"):
            compose(Train, ["dataset=cifar100", "dataset.root=/x", "loss.nosuch=1"])
        with pytest.raises(HydraException, match=r"loss\.class_weights"):
            compose(Train, ["loss.class_weights=auto"])
    assert (chosen.option, chosen.own["class_weights"]) == ("ce", "auto")
    assert (mimic.label_loss.option, mimic.label_loss.own["label_smoothing"]) == ("ce", 0.1)
