"""Every key's type and range, whatever is put there."""

import copy
import math
from dataclasses import is_dataclass
from types import NoneType
from typing import Any, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lshfm.config import schema, shared
from lshfm.config.check import check, key_types
from lshfm.config.compose import compose, conf_folder
from lshfm.config.groups import Dataset, Hashing, MimicLoss, Student
from lshfm.config.keys import key_fields, plain
from lshfm.errors import InputError, nearest

with conf_folder():
    TRAIN = plain(compose(schema.Train, []).settings)
    MIMIC = plain(compose(schema.Mimic, []).settings)
    EVAL = plain(compose(schema.Eval, ["checkpoint=x", "dataset=shapes", "model=resnet20"]).settings)
GROUPS = [  # what is checked, the class of its keys, the prefix of their names
    pytest.param(TRAIN, schema.Train, "", id="train"),
    pytest.param(MIMIC, schema.Mimic, "", id="mimic"),
    pytest.param(MIMIC["student"], Student, "student.", id="student"),
    pytest.param(MIMIC["loss"], MimicLoss, "loss.", id="loss"),
    pytest.param(MIMIC["loss"], Hashing, "loss.", id="hashing"),
    pytest.param(EVAL, schema.Eval, "", id="eval"),
    pytest.param(TRAIN["dataset"], Dataset, "dataset.", id="dataset"),
    pytest.param(TRAIN["schedule"], shared.Schedule, "schedule.", id="schedule"),
    pytest.param(TRAIN["augment"], shared.Augmentation, "augment.", id="augment"),
]

plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text("abc019.-+eE_ ", max_size=5)
plain |= st.sampled_from([10**400, -(10**400), "auto", "on", "last", "sgd", "nan", "inf", "???", "${x}", "${"])
anything = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner), max_leaves=4
)


def fits(value: Any, hint: Any, limits: Any) -> bool:
    """Whether a value is of the type and in the range that the schema states; written again, independently."""
    if hint is Any or is_dataclass(hint):
        return True
    if value is None:
        return type(None) in get_args(hint)
    if NoneType in get_args(hint) and get_args(hint)[0] not in (int, float, bool, str):
        hint = get_args(hint)[0]
    if get_origin(hint) is list:
        return type(value) is list and all(fits(item, get_args(hint)[0], limits) for item in value)
    if get_origin(hint) is dict:
        return type(value) is dict
    kind = get_args(hint)[0] if get_args(hint) else hint
    if type(value) is not kind:
        return False
    if limits["choices"]:
        return value in limits["choices"]
    if kind not in (int, float):
        return True
    low, high = limits["low"], limits["high"]
    inclusive = (low is None or value >= low) and (high is None or value <= high)
    exclusive = (limits["above"] is None or value > limits["above"]) and (
        limits["below"] is None or value < limits["below"]
    )
    return (kind is int or math.isfinite(value)) and inclusive and exclusive


@pytest.mark.parametrize(("values", "keys", "prefix"), GROUPS)
@given(data=st.data())
def test_any_value_is_taken_as_its_type_or_refused_by_name(values: Any, keys: type, prefix: str, data: Any) -> None:
    field = data.draw(st.sampled_from(key_fields(keys)))
    changed = copy.deepcopy(values) | {field.name: data.draw(anything)}
    try:
        check(changed, keys, prefix, strangers=True)
    except InputError as error:
        assert str(error).startswith(f"{prefix}{field.name}")  # noqa: PT017 - accepted values are checked below
    else:
        assert fits(changed[field.name], key_types(keys)[field.name], field.metadata)


@pytest.mark.parametrize(("values", "keys", "prefix"), GROUPS)
def test_what_conf_gives_passes_and_stays(values: Any, keys: type, prefix: str) -> None:
    checked = copy.deepcopy(values)
    check(checked, keys, prefix, strangers=True)
    assert checked == values


@pytest.mark.parametrize(("values", "keys", "prefix"), GROUPS)
def test_every_key_has_to_be_there(values: Any, keys: type, prefix: str) -> None:
    """But for those that only some options of a group have."""
    for field in key_fields(keys):
        if not field.metadata["text"]:
            continue
        rest = {name: value for name, value in copy.deepcopy(values).items() if name != field.name}
        with pytest.raises(InputError, match=f"^{prefix}{field.name}: missing"):
            check(rest, keys, prefix, strangers=True)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("epochs", -1, "epochs=-1: must be at least 1"),
        ("epochs", 0, "epochs=0: must be at least 1"),
        ("epochs", 2.5, "epochs=2.5: must be a whole number"),
        ("epochs", True, "epochs=True: must be a whole number"),
        ("epochs", None, "epochs=None: must be a whole number"),
        ("epochs", math.inf, "epochs=inf: must be a whole number"),
        ("lr", "abc", "lr=abc: must be a number"),
        ("lr", 0.0, "lr=0.0: must be above 0"),
        ("lr", math.nan, "lr=nan: must be a finite number"),
        ("lr", math.inf, "lr=inf: must be a finite number"),
        ("momentum", 1.0, "momentum=1.0: must be below 1"),
        ("ema", 1.0, "ema=1.0: must be below 1"),
        ("dataset", {**TRAIN["dataset"], "holdout": 20}, "dataset.holdout=20.0: must be below 1; 0.2 is a fifth"),
        ("weight_decay", -1e-5, "weight_decay=-1e-05: must be at least 0"),
        ("seed", 2**31, "seed=2147483648: must be at most 2147483647"),
        pytest.param("lr", 10**400, f"lr={10**400}: must be a number", id="beyond floats"),
        ("lr", "${nothing}", "lr=${nothing}: must be a number"),
        ("lr", "???", "lr=???: must be a number"),
        ("freeze", ["???"], "freeze=['???']: must be a list, each of it a text"),
        ("freeze", ["${x}"], "freeze=['${x}']: must be a list, each of it a text"),
        ("gpus", 10**12, "gpus=1000000000000: must be at most 1024"),
        pytest.param("gpus", [0, 10**400], f"gpus={10**400}: must be at most 1024", id="beyond devices"),
        ("workers", 257, "workers=257: must be at most 256"),
        ("overwrite", "perhaps", "overwrite=perhaps: must be true or false"),
        ("optimizer", "sdg", "optimizer=sdg: must be one of sgd, adam, adamw (did you mean 'sgd'?)"),
        ("precision", "fp16", "precision=fp16: must be one of fp32, bf16, auto (did you mean 'bf16'?)"),
        (
            "freeze",
            ["bn_stat"],
            "freeze=bn_stat: must be one of bn_stats, bn_affine, backbone (did you mean 'bn_stats'?)",
        ),
        ("freeze", "backbone", "freeze=backbone: must be a list, each of it a text"),
        ("schedule", 3, "schedule=3: must be keys, as schedule.cosine_epochs=..."),
        ("schedule", None, "schedule=None: must be keys, as schedule.cosine_epochs=..."),
        ("schedule", {**TRAIN["schedule"], "steps": [30, -1]}, "schedule.steps=-1.0: must be at least 0"),
        ("augment", {**TRAIN["augment"], "flip": 1.5}, "augment.flip=1.5: must be at most 1"),
        ("augment", {**TRAIN["augment"], "flips": 1.5}, "augment.flips: no such key (did you mean 'flip'?)"),
        ("batchsize", 3, "batchsize: no such key (did you mean 'batch_size'?)"),
    ],
)
def test_messages(key: str, value: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        check(copy.deepcopy(TRAIN) | {key: value}, schema.Train)
    assert str(caught.value) == message


@pytest.mark.parametrize(("given_", "taken"), [(True, "on"), (False, "off"), ("auto", "auto")])
def test_yaml_reads_on_and_off_as_truth_values(given_: Any, taken: str) -> None:
    values = TRAIN["dataset"] | {"cache": given_}
    check(values, Dataset, "dataset.", strangers=True)
    assert values["cache"] == taken


def test_numbers_become_their_keys_type() -> None:
    values = copy.deepcopy(TRAIN) | {"lr": 1, "schedule": {**TRAIN["schedule"], "steps": [30]}}
    check(values, schema.Train)
    assert [type(values["lr"]), type(values["schedule"]["steps"][0])] == [float, float]


def test_strangers_only_where_they_are_let_in() -> None:
    values = TRAIN["augment"] | {"hue": 0.1}
    check(values, shared.Augmentation, "augment.", strangers=True)
    assert values["hue"] == 0.1
    with pytest.raises(InputError, match=r"^augment\.hue: no such key"):
        check(values, shared.Augmentation, "augment.")


def test_nearest() -> None:
    assert nearest("voc207", ["coco", "voc2007"]) == " (did you mean 'voc2007'?)"
    assert nearest("xyz", ["coco", "voc2007"]) == ""
