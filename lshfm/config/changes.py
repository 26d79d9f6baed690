"""Compares settings: which keys differ from what the chosen options give, and which can change a run's numbers."""

from collections.abc import Container, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lshfm.config import schema
from lshfm.config.groups import Dataset
from lshfm.config.keys import NEUTRAL, key_fields

# Keys that change no result, which older versions kept in identities and showed in names all the same.
ONCE_COUNTED = frozenset({"eval_batch_size", "allow_test"})


def flatten(values: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys; lists are leaves."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        nested = isinstance(value, Mapping) and value
        flat.update(flatten(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value})
    return flat


def changes_results(command: str, dotted: str) -> bool:
    """Whether a key can change a number that a run reports."""
    if dotted in NEUTRAL or dotted.startswith("dataset.preset.") or dotted.endswith(("_target_", ".kind")):
        return False
    first, _, rest = dotted.partition(".")
    owner, name = (Dataset, rest) if first == "dataset" else (schema.COMMANDS[command], first)
    key_field = next((each for each in key_fields(owner) if each.name == name), None)
    return key_field is None or bool(key_field.metadata["changes_results"])


def changed_keys(config: DictConfig, reference: DictConfig, values: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys whose values differ from what the chosen options and the other keys give, with these values.

    reference: the settings composed from the options of `config` alone. values: the resolved ones of `config`, under
    dotted keys: resolving is what takes the time of composing.
    """
    raw, raw_reference = (flatten(OmegaConf.to_container(c)) for c in (config, reference))  # type: ignore[arg-type]
    changed, alone = {}, config.copy()
    for dotted, value in raw.items():
        if (dotted in raw_reference and raw_reference[dotted] == value) or dotted.startswith(("published.", "recipe.")):
            continue
        OmegaConf.update(alone, dotted, raw_reference.get(dotted), merge=False)
        default = OmegaConf.select(alone, dotted, throw_on_missing=False)
        default = OmegaConf.to_container(default) if OmegaConf.is_config(default) else default
        OmegaConf.update(alone, dotted, value, merge=False)
        if values[dotted] != default:
            changed[dotted] = values[dotted]
    return changed | _from_recipe(config, raw, values)


def _from_recipe(config: DictConfig, raw: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Keys interpolated from a recipe's `published` table, where that gives another value than no recipe."""
    if not config.get("published"):
        return {}
    without = config.copy()
    without.published = {}
    plain = flatten(OmegaConf.to_container(without, resolve=True))  # type: ignore[arg-type]
    readers = [name for name, value in raw.items() if "published." in str(value)]
    return {name: values[name] for name in readers if values[name] != plain[name]}


def fill_in(config: DictConfig, saved: Mapping[str, Any], typed: Container[str]) -> None:
    """Set keys of `config` to saved values (under dotted keys), but for keys that were typed or `config` lacks."""
    for dotted, value in saved.items():
        node, _, name = dotted.rpartition(".")
        parent = OmegaConf.select(config, node) if node else config
        keys = parent.keys() if isinstance(parent, DictConfig) else ()  # `in parent` would miss a key set to ???
        is_projection = dotted == "model.projection" and value  # mimic's, which the network's file need not name
        if dotted not in typed and (name in keys or is_projection):
            OmegaConf.update(config, dotted, value, merge=False, force_add=True)
