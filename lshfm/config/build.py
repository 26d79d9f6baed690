"""Builds an object (network, loss, data set, task) from its node in conf/, whose `_target_` names class or function."""

import inspect
import traceback
from collections.abc import Mapping
from typing import Any

import hydra

from lshfm import errors
from lshfm.errors import InputError


def build(node: Mapping[str, Any], at: str = "", **arguments: Any) -> Any:
    """Call what `_target_` names with the node's other values and `arguments`.

    at: the node's settings group, for messages: with at="dataset" the parameter root is called dataset.root.
    Raises InputError when the target cannot be imported, does not take these arguments or, being a class of the
    user's, their types or values, or runs out of memory.
    """
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise InputError(f"an option's YAML file must name what to build, as _target_: package.module.Name; got {node}")
    target = str(node["_target_"])
    function = imported(target)
    keywords = {name: value for name, value in node.items() if name != "_target_"} | arguments
    try:
        inspect.signature(function).bind(**keywords)
    except (TypeError, ValueError) as error:
        raise InputError(f"{target} does not take these settings: {error}") from error
    try:
        with errors.at(at):
            return function(**keywords)
    except InputError:
        raise
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "allocate memory" not in str(error):  # how torch words it
            raise
        raise InputError(f"there is no room in memory for {target} with {_shown(keywords)}") from error
    except (TypeError, ValueError) as error:
        if target.startswith("lshfm."):
            raise
        place = traceback.extract_tb(error.__traceback__)[1:]  # beyond the call above
        where = next((f" ({each.filename}, line {each.lineno})" for each in place), "")
        what = f"{type(error).__name__}: {error}{where}"
        raise InputError(f"{target} cannot be made with {_shown(keywords)}: {what}") from error


def imported(target: str) -> Any:
    """What a `_target_` names. Raises InputError when it cannot be imported."""
    try:
        return hydra.utils.get_object(target)
    except Exception as error:
        raise InputError(f"cannot import {target}: {error}\nIs its module installed, or on PYTHONPATH?") from error


def _shown(keywords: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in keywords.items())
