"""The reference of all keys, from the classes that the command line checks and the values that conf/ gives."""

import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any

from lshfm.config.catalogue import comments, group_folder, groups, in_order, options
from lshfm.config.changes import flatten
from lshfm.config.check import is_group, key_types
from lshfm.config.compose import compose_unchecked, conf_folder
from lshfm.config.headings import HIDDEN
from lshfm.config.help import resolved
from lshfm.config.keys import key_fields
from lshfm.config.schema import COMMANDS
from lshfm.config.sweeping import OF_A_FILE, Sweep

GIVEN = {
    "eval": ["dataset=shapes", "model=resnet20", "teacher=resnet20"],
    "export": ["dataset=shapes", "model=resnet20"],
}
SEVERAL = {"train": ["dataset=voc2007"], "mimic": ["dataset=voc2007", "teacher=resnet34", "student=resnet18"]}
HEAD = ["| key | value | default | meaning |", "|---|---|---|---|"]
OWN = ("dataset", "model", "loss", "label_loss", "stage", "task")  # groups whose options have keys of their own
INNER = ("_target_", "name", "defaults", "preset", "kind", "terms", "weight")
LIMITS = {"low": "≥ {}", "above": "> {}", "high": "≤ {}", "below": "< {}"}


def config_reference() -> str:
    """All commands, then the options of each group with the keys that are theirs alone."""
    with conf_folder():
        lines = [line for command in COMMANDS for line in _command(command)]
        lines += [*_sweep(), *(line for group in OWN for line in _options(group))]
    return "\n".join(lines)


def _command(command: str) -> Iterator[str]:
    keys = COMMANDS[command]
    words = GIVEN.get(command, SEVERAL.get(command, []))
    config, _ = compose_unchecked(command, words)
    values = flatten(resolved(config))
    yield from ("", f"## lshfm {command}", "")
    found = [f"`{group}` ({len(options(group_folder(command, group)))} options)" for group in groups(command)]
    yield f"Groups: {', '.join(found)}." if found else "No groups."
    shown = " ".join(words)
    yield f"\nDefaults are those of `lshfm {command} {shown}`.\n" if shown and command in SEVERAL else ""
    yield from HEAD
    yield from _rows(keys, "", values)


def _rows(keys: Any, prefix: str, values: Mapping[str, Any]) -> Iterator[str]:
    """A row a key, those in keys of keys and in groups too."""
    hints = key_types(keys)
    for each in key_fields(keys):
        hint, name = hints[each.name], f"{prefix}{each.name}"
        inner = _dataclass(hint)
        if each.name in HIDDEN:
            continue
        if inner:
            yield from _rows(inner, prefix if each.metadata.get("is_part") else f"{name}.", values)
        elif each.metadata["text"]:
            same = "" if each.metadata["changes_results"] else " *same run*"
            yield _row(name, _kind(hint, each.metadata), values.get(name, "–"), each.metadata["text"] + same)


def _dataclass(hint: Any) -> Any:
    """The class of keys that a hint stands for, also where it may be None; None for plain values."""
    found = [each for each in (hint, *typing.get_args(hint)) if is_dataclass(each) or is_group(each)]
    return found[0] if found else None


def _kind(hint: Any, limits: Mapping[str, Any]) -> str:
    """What a value may be: its type with the range, or the words to choose from."""
    if limits["choices"]:
        return " ".join(f"`{choice}`" for choice in limits["choices"])
    names = [_name(each) for each in (typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,))]
    bounds = [text.format(limits[name]) for name, text in LIMITS.items() if limits[name] is not None]
    return ", ".join([" or ".join(dict.fromkeys(names)), *bounds])


def _name(hint: Any) -> str:
    of_list = typing.get_origin(hint) is list
    named = {
        int: "whole number",
        float: "number",
        bool: "true, false",
        str: "text",
        types.NoneType: "null",
        Any: "value",
    }
    return f"list of {_name(typing.get_args(hint)[0])}s" if of_list else named.get(hint, "keys")


def _row(name: str, kind: str, value: Any, text: str) -> str:
    plain = {"None": "null", "???": "to be given", "True": "true", "False": "false", "–": "–"}
    shown = plain.get(str(value), f"`{value}`" if str(value) else "")
    return f"| `{name}` | {kind} | {shown} | {text.replace('|', chr(92) + '|')} |"


def _sweep() -> Iterator[str]:
    yield from ("", "## Sweeps", "", "Of `train` and `mimic`; [what they do](sweeps.md).", "", *HEAD)
    for each in key_fields(Sweep):
        if each.name not in OF_A_FILE:
            kind = _kind(key_types(Sweep)[each.name], each.metadata)
            yield _row(f"sweep.{each.name}", kind, "–", each.metadata["text"])


def _options(group: str) -> Iterator[str]:
    """The options of a group and the keys in their files that are explained there."""
    yield from ("", f"## Options of `{group}`", "", "| option | keys of its own |", "|---|---|")
    for option in in_order(options(group)):
        said = comments(group, option)
        own = "; ".join(
            f"`{name}`: {text.replace('|', chr(92) + '|')}" for name, text in said.items() if name not in INNER
        )
        yield f"| `{option}` | {own} |"
