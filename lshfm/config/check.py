"""Checks plain values against the schema (types, ranges, choices) and makes the settings' dataclasses from them."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import field, is_dataclass, make_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lshfm.config import schema
from lshfm.config.groups import MimicLoss
from lshfm.config.keys import PATHS, Group, key_fields
from lshfm.errors import InputError, nearest

S = TypeVar("S")
G = TypeVar("G", bound=Group)

_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def key_types(keys: type) -> dict[str, Any]:
    """The type of each key of a schema class; of an optional part, its class without None."""
    hints = get_type_hints(keys)
    types = {each.name: hints[each.name] for each in key_fields(keys)}
    parts = {each.name for each in key_fields(keys) if each.metadata.get("is_part")}
    return {name: get_args(hint)[0] if name in parts else hint for name, hint in types.items()}


def is_group(keys: Any) -> bool:
    """Whether a key's type is a Group: its value is an option of a group of conf/."""
    return isinstance(keys, type) and issubclass(keys, Group)


def check(values: dict[str, Any], keys: type, prefix: str = "", *, strangers: bool = False) -> None:
    """Convert `values` in place to the types of `keys` and check their ranges.

    strangers: keys that `keys` does not know are left as they are (a group option's own).
    Raises InputError naming the first key that is unknown, missing, of the wrong type or out of range.
    """
    types = key_types(keys)
    for name in values:
        if name not in types and not strangers:
            raise InputError(f"{prefix}{name}: no such key{nearest(name, types)}")
    for each in key_fields(keys):
        hint, dotted = types[each.name], f"{prefix}{each.name}"
        if each.metadata.get("is_part"):
            if any(name in values for name in key_types(hint)):
                check(values, hint, prefix, strangers=True)
        elif each.name in values or (each.metadata["text"] and not _is_absent(values, keys)):
            _check_key(values, each.name, dotted, hint, each.metadata)


def _is_absent(values: Mapping[str, Any], keys: type) -> bool:
    """Whether a group's node has none of the keys that all of its options have, as where no option was chosen."""
    return is_group(keys) and not any(each.name in values for each in key_fields(keys) if each.metadata["text"])


def _check_key(values: dict[str, Any], name: str, dotted: str, hint: Any, limits: Mapping[str, Any]) -> None:
    if name not in values:
        raise InputError(f"{dotted}: missing from the configuration")
    if is_group(hint):
        if isinstance(values[name], dict):
            check(values[name], hint, f"{dotted}.", strangers=True)
        return
    if is_dataclass(hint):
        if not isinstance(values[name], dict):
            raise InputError(f"{dotted}={values[name]}: must be keys, as {dotted}.{key_fields(hint)[0].name}=...")  # type: ignore[arg-type]
        check(values[name], hint, f"{dotted}.")  # type: ignore[arg-type]
        return
    if "off" in limits["choices"]:
        values[name] = _switch(values[name])
    if hint is not Any:
        values[name] = _converted(dotted, values[name], hint)
    _check_range(dotted, values[name], limits)


def settings_of(keys: type[S], values: Mapping[str, Any], choices: Mapping[str, Any]) -> S:
    """Checked plain values as the class that states their keys. choices: the option of each group."""
    filled: dict[str, Any] = {}
    for name, hint in key_types(keys).items():
        if is_group(hint):
            filled[name] = group_of(hint, values[name] or {}, choices.get(name))
        else:
            filled[name] = hint(**values[name]) if is_dataclass(hint) else values[name]  # type: ignore[operator]
    return keys(**filled)


def group_of(keys: type[G], node: Mapping[str, Any], option: Any) -> G:
    """A group's checked node as its dataclass; keys that the class does not declare go into `own`."""
    known: dict[str, Any] = {}
    seen: set[str] = set()
    for name, hint in key_types(keys).items():
        if is_dataclass(hint) and not is_group(hint):
            inner = {name: node[name] for name in key_types(hint) if name in node}  # type: ignore[arg-type]
            known[name] = hint(**inner) if inner else None  # type: ignore[operator]
            seen |= inner.keys()
        else:
            known[name] = node.get(name)
            seen.add(name)
    return keys(option=option, own={name: value for name, value in node.items() if name not in seen}, **known)


@cache
def _cell(hint: Any) -> Any:
    """An OmegaConf node that converts whatever its `value` is set to into this type."""
    return OmegaConf.structured(make_dataclass("Cell", [("value", hint, field(default="???"))]))


def _converted(dotted: str, value: Any, hint: Any) -> Any:
    """The value as the key's type, by way of OmegaConf where it is of another one. Raises InputError."""
    is_interpolation = isinstance(value, str) and "${" in value  # refused below, by OmegaConf
    if not is_interpolation and type(value) in (get_args(hint) if isinstance(hint, UnionType) else (hint,)):
        return value
    typed = _cell(hint)
    try:
        typed.value = value
        converted = typed.value
        if OmegaConf.is_config(converted):
            converted = OmegaConf.to_container(converted, resolve=True, throw_on_missing=True)
    except (OmegaConfBaseException, OverflowError) as error:
        raise InputError(f"{dotted}={value}: must be {_kind(dotted, hint)}") from error
    return converted


def _kind(dotted: str, hint: Any) -> str:
    """What a key of this type takes, in words."""
    given = [each for each in get_args(hint) if each is not NoneType]
    if get_origin(hint) is list:
        return f"a list, each of it {_kind(dotted, given[0])}"
    if get_origin(hint) is dict:
        return f"keys, as {dotted}.KEY=..."
    return _kind(dotted, given[0]) if given else _KINDS[hint]


def _switch(value: object) -> object:
    """A bool as on or off, the words that YAML reads as one without quotes; other values as they are."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


def _check_range(name: str, value: Any, limits: Mapping[str, Any]) -> None:
    for item in value if isinstance(value, list) else [value]:
        if limits["choices"] and item is not None and item not in limits["choices"]:
            near = nearest(item, limits["choices"])
            raise InputError(f"{name}={item}: must be one of {', '.join(limits['choices'])}{near}")
        if not isinstance(item, int | float) or isinstance(item, bool):
            continue
        low, above, high, below = (limits[k] for k in ("low", "above", "high", "below"))
        rules = [
            (isinstance(item, int) or math.isfinite(item), "a finite number"),
            (low is None or item >= low, f"at least {low}"),
            (above is None or item > above, f"above {above}"),
            (high is None or item <= high, f"at most {high}"),
            (below is None or item < below, f"below {below}"),
        ]
        for holds, text in rules:
            if not holds:
                example = f"; {limits['example']}" if limits["example"] else ""
                raise InputError(f"{name}={item}: must be {text}{example}")


def check_homes(values: Mapping[str, Any]) -> None:
    """InputError for a path that starts with ~USER where this machine has no such user."""
    for name in sorted(PATHS & values.keys()):
        try:
            Path(str(values[name])).expanduser()
        except RuntimeError as error:
            raise InputError(f"{name}={values[name]}: this machine knows no home of that user") from error


def role_of(group: str) -> str:
    """The key that a group fills: model@student fills student."""
    return group.rpartition("@")[2]


def check_choices(keys: type[schema.Settings], config: DictConfig, choices: Mapping[str, Any]) -> None:
    """InputError for a list of a group's options, which Hydra would take; only mimic's losses can be several."""
    chosen = {role_of(group): option for group, option in choices.items()}
    for name, hint in key_types(keys).items():
        if not is_group(hint) or config.get(name) is None:
            continue
        if hint is MimicLoss:
            _check_losses(name, config[name], chosen[name])
        elif not isinstance(chosen.get(name), str):
            raise InputError(f"{name}: takes one option, not a list")
        if not isinstance(config[name], DictConfig):
            raise InputError(f"{name}={chosen[name]}: its file must hold keys, as _target_: package.module.Name")


def _check_losses(role: str, node: DictConfig, chosen: Any) -> None:
    options = chosen if isinstance(chosen, list) else [chosen]
    if len(list(losses(node))) < len(options):
        raise InputError(f"{role}={','.join(options)}: a loss's name takes keys, as {role}.{options[0]}.weight=2")


def losses(node: DictConfig) -> Iterator[str]:
    """The names of mimicking losses in a node: its entries that have a `kind` and `terms` to build."""
    for name, loss in node.items():
        terms = loss.get("terms") if isinstance(loss, DictConfig) and "kind" in loss else None
        if isinstance(terms, DictConfig) and all(isinstance(term, DictConfig) for term in terms.values()):
            yield str(name)
