"""From overrides to a Job: composed by Hydra, resolved, checked, and compared with what its options give alone."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import InterpolationToMissingValueError, MissingMandatoryValue

from lshfm.config import CONF_DIR, schema
from lshfm.config.check import check
from lshfm.errors import InputError


@dataclass(frozen=True)
class Job:
    """One run's settings: plain values, resolved and checked."""

    values: dict[str, Any]
    choices: dict[str, str | None]  # group -> option, for the groups of conf/
    changed: dict[str, Any]  # dotted key -> value, where it differs from what the chosen options give alone


def compose(command: str, overrides: Sequence[str], saved: Mapping[str, Any] | None = None) -> Job:
    """Compose conf/<command>.yaml with `overrides`, resolve everything and check it.

    saved: dotted keys with values that hold wherever no override names the key (a checkpoint's settings).
    Raises InputError for a value that is missing, of the wrong type or out of range, naming the key.
    """
    config, choices = _compose(command, overrides)
    _check_choices(command, config, choices)
    _fill_in(config, saved or {}, typed={_key_of(override) for override in overrides})
    groups = [f"{group}={option}" for group, option in choices.items() if option and group != "experiment"]
    reference, _ = _compose(command, groups)
    values = _plain(config)
    check(values, schema.COMMANDS[command])
    if values["dataset"]:
        check(values["dataset"], schema.Dataset, "dataset.", strangers=True)
    return Job(values, choices, _changed(config, reference))


def peek(command: str, overrides: Sequence[str], dotted: str) -> Any:
    """One value, before the rest can be composed. Raises InputError if it is not given."""
    value = OmegaConf.select(_compose(command, overrides)[0], dotted, throw_on_missing=False)
    if value is None:
        raise InputError(f"not given: {dotted}. Add {dotted}=...")
    return value


def hydra_ready() -> AbstractContextManager[None]:
    """`conf_folder`, unless a running command's Hydra is there already."""
    return nullcontext() if GlobalHydra.instance().is_initialized() else conf_folder()


@contextmanager
def conf_folder(folder: Path = CONF_DIR) -> Iterator[None]:
    """Make `compose` work outside a command line's own Hydra."""
    with hydra.initialize_config_dir(str(folder), version_base="1.3"):
        yield


def to_yaml(values: Mapping[str, Any]) -> str:
    """Plain values as YAML text."""
    return OmegaConf.to_yaml(OmegaConf.create(dict(values)))


def flatten(values: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys; lists are leaves."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        nested = isinstance(value, Mapping) and value
        flat.update(flatten(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value})
    return flat


def changes_results(command: str, dotted: str) -> bool:
    """Whether a key can change a number that a run reports."""
    if dotted in schema.NEUTRAL or dotted.startswith("dataset.preset.") or dotted.endswith("_target_"):
        return False
    first, _, rest = dotted.partition(".")
    owner, name = (schema.Dataset, rest) if first == "dataset" else (schema.COMMANDS[command], first)
    found = next((f for f in fields(owner) if f.name == name), None)
    return found is None or bool(found.metadata["changes_results"])


def _compose(command: str, overrides: Sequence[str]) -> tuple[DictConfig, dict[str, str | None]]:
    config = hydra.compose(command, list(overrides), return_hydra_config=True)
    choices = {g: o for g, o in config.hydra.runtime.choices.items() if "/" not in g}
    with open_dict(config):
        del config["hydra"]
    return config, choices


def _check_choices(command: str, config: DictConfig, choices: Mapping[str, str | None]) -> None:
    """Hydra also takes a list of a group's options; a group here is one thing."""
    groups = [f.name for f in fields(schema.COMMANDS[command]) if f.metadata["text"] == schema.A_GROUP]
    for group in groups:
        if group in config and not isinstance(choices.get(group), str):
            raise InputError(f"{group}: takes one option, not a list")


def _key_of(override: str) -> str:
    return str(OverridesParser.create().parse_override(override).key_or_group)


def _fill_in(config: DictConfig, saved: Mapping[str, Any], typed: set[str]) -> None:
    for dotted, value in saved.items():
        node, _, name = dotted.rpartition(".")
        parent = OmegaConf.select(config, node) if node else config
        keys = parent.keys() if isinstance(parent, DictConfig) else ()  # `in parent` would miss a key set to ???
        if dotted not in typed and name in keys:
            OmegaConf.update(config, dotted, value, merge=False)


def _plain(config: DictConfig) -> dict[str, Any]:
    try:
        values = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except (MissingMandatoryValue, InterpolationToMissingValueError) as error:
        raw = flatten(OmegaConf.to_container(config))  # type: ignore[arg-type]
        missing = sorted(name for name, value in raw.items() if value == "???")
        add = " ".join(f"{name}=..." for name in missing)
        raise InputError(f"not given: {', '.join(missing)}. Add {add}") from error
    assert isinstance(values, dict)
    return {str(name): value for name, value in values.items()}


def _changed(config: DictConfig, reference: DictConfig) -> dict[str, Any]:
    """Keys that were set to something else than would follow from the other keys."""
    raw, raw_reference = (flatten(OmegaConf.to_container(c)) for c in (config, reference))  # type: ignore[arg-type]
    values = flatten(OmegaConf.to_container(config, resolve=True))  # type: ignore[arg-type]
    changed = {}
    for dotted, value in raw.items():
        if dotted in raw_reference and raw_reference[dotted] == value:
            continue
        alone = config.copy()
        OmegaConf.update(alone, dotted, raw_reference.get(dotted), merge=False)
        before = OmegaConf.select(alone, dotted, throw_on_missing=False)
        before = OmegaConf.to_container(before) if OmegaConf.is_config(before) else before
        if values[dotted] != before:
            changed[dotted] = values[dotted]
    return changed
