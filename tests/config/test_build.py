"""A node's `_target_` and the values it is called with."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from lshfm.config.build import build
from lshfm.errors import InputError
from lshfm.losses.classification import ASL


def test_the_target_is_called_with_the_other_values_and_the_arguments() -> None:
    loss = build({"_target_": "lshfm.losses.classification.ASL", "gamma_neg": 2.0}, clip=0.1)
    assert isinstance(loss, ASL)
    assert (loss.gamma_neg, loss.clip, loss.reduction) == (2.0, 0.1, "mean")


def test_arguments_win_over_the_node() -> None:
    assert build({"_target_": "fractions.Fraction", "numerator": 1}, numerator=3, denominator=4) * 4 == 3


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"arch": "x"}, "must name what to build, as _target_"),
        ({"_target_": "no_such_module.Thing"}, "cannot import no_such_module.Thing"),
        ({"_target_": "lshfm.losses.classification.Missing"}, r"cannot import lshfm\.losses\.classification\.Missing"),
        ({"_target_": "..."}, r"cannot import \.\.\."),
        ({"_target_": ""}, "cannot import"),
        ({"_target_": "lshfm.losses.classification.BCE", "gama": 1}, "BCE does not take these settings: .*'gama'"),
        ({"_target_": "lshfm.models.cifar.cifar_classifier"}, "does not take these settings: missing .*'arch'"),
        ({"_target_": "lshfm.errors"}, "lshfm.errors does not take these settings"),
        ({"_target_": "math.pi"}, "math.pi does not take these settings"),
        ({"_target_": "builtins.dict"}, "builtins.dict does not take these settings"),
    ],
)
def test_what_cannot_be_built_is_the_users_error(node: Mapping[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(node)


def test_an_error_inside_the_target_is_not_disguised() -> None:
    with pytest.raises(ZeroDivisionError):
        build({"_target_": "fractions.Fraction", "numerator": 1, "denominator": 0})


def test_a_value_that_a_class_of_the_users_cannot_take() -> None:
    """The message says where in that class; for lshfm's own such an error is a fault of ours, shown whole."""
    with pytest.raises(
        InputError, match=r"torch\.nn\.Conv2d cannot be made with .*=abc.*: TypeError: .*conv\.py, line"
    ):
        build({"_target_": "torch.nn.Conv2d", "in_channels": 3, "out_channels": "abc", "kernel_size": 3})


@pytest.mark.parametrize(("group", "name"), [("student", "student.pool"), ("", "pool")])
def test_messages_name_keys_of_the_nodes_group(group: str, name: str) -> None:
    node = {"_target_": "lshfm.models.cifar.cifar_classifier", "arch": "resnet8", "pool": "gap"}
    with pytest.raises(InputError, match=f"^{name}=gap is unknown"):
        build(node, at=group, num_classes=2)


def test_the_node_stays_as_it_is() -> None:
    node = {"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 3}
    assert isinstance(build(node, bias=False), torch.nn.Linear)
    assert node == {"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 3}
