"""Types and ranges of plain values, by the dataclasses in schema.py."""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lshfm.config import schema
from lshfm.errors import InputError, nearest

_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def check(values: dict[str, Any], keys: type, prefix: str = "", *, strangers: bool = False) -> None:
    """Convert `values` in place to the types of `keys` and check their ranges.

    strangers: keys that `keys` does not know are left as they are (a group option's own).
    Raises InputError naming the first key that is unknown, missing, of the wrong type or out of range.
    """
    known = {f.name: f for f in fields(keys)}
    for name in values:
        if name not in known and not strangers:
            raise InputError(f"{prefix}{name}: no such key{nearest(name, known)}")
    typed = OmegaConf.structured(keys)
    for name, hint in get_type_hints(keys).items():
        dotted = f"{prefix}{name}"
        if name not in values:
            raise InputError(f"{dotted}: missing from the configuration")
        if is_dataclass(hint):
            if not isinstance(values[name], dict):
                raise InputError(f"{dotted}={values[name]}: must be keys, as {dotted}.{fields(hint)[0].name}=...")
            check(values[name], hint, f"{dotted}.")  # type: ignore[arg-type]
            continue
        limits = known[name].metadata
        if "off" in limits["choices"]:
            values[name] = _switch(values[name])
        if hint is not Any:
            values[name] = _converted(dotted, values[name], hint, typed)
        _check_range(dotted, values[name], limits)


def _converted(dotted: str, value: Any, hint: Any, typed: Any) -> Any:
    """The value as the key's type, by way of `typed`, an OmegaConf structure. Raises InputError."""
    name = dotted.rpartition(".")[2]
    try:
        typed[name] = value
        converted = typed[name]
        if OmegaConf.is_config(converted):
            converted = OmegaConf.to_container(converted, resolve=True, throw_on_missing=True)
    except (OmegaConfBaseException, OverflowError) as error:
        kind = _KINDS[getattr(hint, "__args__", [hint])[0]]
        kind = {list: f"a list, each of it {kind}", dict: f"keys, as {dotted}.KEY=..."}.get(get_origin(hint), kind)
        raise InputError(f"{dotted}={value}: must be {kind}") from error
    return converted


def _switch(value: object) -> object:
    """YAML reads a bare on/off as a truth value."""
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
                raise InputError(f"{name}={item}: must be {text}")


def check_homes(values: Mapping[str, Any]) -> None:
    """InputError for a path that starts in the home of a user who is not there."""
    for name in sorted(schema.PATHS & values.keys()):
        try:
            Path(str(values[name])).expanduser()
        except RuntimeError as error:
            raise InputError(f"{name}={values[name]}: this machine knows no home of that user") from error
