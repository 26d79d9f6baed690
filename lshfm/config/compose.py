"""From overrides to a Job: composed by Hydra, resolved, checked, and compared with what its options give alone."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import InterpolationToMissingValueError, MissingMandatoryValue

from lshfm.config import CONF_DIR, schema
from lshfm.config.check import check, check_homes
from lshfm.config.choices import check_choices, kinds, role_of
from lshfm.config.teachers import register_teachers
from lshfm.errors import InputError


@dataclass(frozen=True)
class Job:
    """One run's settings: plain values, resolved and checked."""

    values: dict[str, Any]
    choices: dict[str, Any]  # group -> option (a list of them for mimic's loss), for the groups of conf/
    changed: dict[str, Any]  # dotted key -> value, where it differs from what the chosen options give alone


def compose(command: str, overrides: Sequence[str], saved: Mapping[str, Any] | None = None) -> Job:
    """Compose conf/<command>.yaml with `overrides`, resolve everything and check it.

    saved: dotted keys with values that hold wherever no override names the key (a checkpoint's settings).
    Raises InputError for a value that is missing, of the wrong type or out of range, naming the key.
    """
    config, choices = compose_unchecked(command, overrides)
    check_choices(command, config, choices)
    _fill_in(config, saved or {}, typed={_key_of(override) for override in overrides})
    chosen = [_choose(group, option) for group, option in choices.items() if option and group != "experiment"]
    reference, _ = compose_unchecked(command, chosen)
    values = _plain(config)
    check(values, schema.COMMANDS[command])
    for group, keys in _keys_of_groups(command, values):
        check(values[group], keys, f"{group}.", strangers=True)
    check_homes(flatten(values))
    return Job(values, {role_of(group): option for group, option in choices.items()}, _changed(config, reference))


def peek(command: str, overrides: Sequence[str], dotted: str) -> Any:
    """One value, before the rest can be composed. Raises InputError if it is not given."""
    config, _ = compose_unchecked(command, overrides)
    value = OmegaConf.select(config, dotted, throw_on_missing=False)
    if value is None:
        raise InputError(f"not given: {dotted}. Add {dotted}=...")
    check_homes({dotted: value})
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def network_values(option: str, saved: Mapping[str, Any]) -> dict[str, Any]:
    """What to build a network of the group `model` from, with `saved` values in place of the file's; no weights."""
    config = hydra.compose("eval", [f"model={option}"])
    _fill_in(config, flatten(saved, "model."), typed=set())
    with open_dict(config.model):
        config.model.weights = "none"
    values = OmegaConf.to_container(config.model, resolve=True)
    assert isinstance(values, dict)
    return {"name": option} | {str(name): value for name, value in values.items()}


def hydra_ready() -> AbstractContextManager[None]:
    """`conf_folder`, unless a running command's Hydra is there already."""
    return nullcontext() if GlobalHydra.instance().is_initialized() else conf_folder()


@contextmanager
def conf_folder(folders: Sequence[Path] = ()) -> Iterator[None]:
    """Make `compose` work outside a command line's own Hydra; `folders` hold options of the user's own."""
    register_teachers(folders)
    with hydra.initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        search_path = create_config_search_path(str(CONF_DIR))
        for folder in folders:
            search_path.prepend("command-line", f"file://{folder}", anchor="schema")  # where --config-dir puts it
        GlobalHydra.instance().clear()  # made above without these folders
        Hydra.create_main_hydra2(task_name="lshfm", config_search_path=search_path)
        yield


def config_folders() -> list[Path]:
    """What a running command's --config-dir named."""
    sources = HydraConfig.get().runtime.config_sources if HydraConfig.initialized() else []
    return [Path(source.path).absolute() for source in sources if source.provider == "command-line"]


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
    if dotted in schema.NEUTRAL or dotted.startswith("dataset.preset.") or dotted.endswith(("_target_", ".kind")):
        return False
    first, _, rest = dotted.partition(".")
    owner, name = (schema.Dataset, rest) if first == "dataset" else (schema.COMMANDS[command], first)
    found = next((f for f in fields(owner) if f.name == name), None)
    return found is None or bool(found.metadata["changes_results"])


def compose_unchecked(command: str, overrides: Sequence[str]) -> tuple[DictConfig, dict[str, Any]]:
    """The settings, and the option of each group, under the group's name in the defaults list."""
    if command != "mimic":
        return _hydra_compose(command, overrides)
    # Who is student and teacher may be known only once the data set is; until then their keys are taken unchecked.
    strict = [word.removeprefix("++") if word.startswith(("++student.", "++teacher.")) else word for word in overrides]
    lenient = [f"++{word}" if word.startswith(("student.", "teacher.")) else word for word in strict]
    config, choices = _hydra_compose(command, lenient)
    presets = config.dataset.preset if config.get("dataset") else {}
    left_open = [group for group, option in choices.items() if option is None and presets.get(role_of(group))]
    if not left_open and strict == lenient:
        return config, choices
    return _hydra_compose(command, [*strict, *(f"{group}={presets[role_of(group)]}" for group in left_open)])


def _hydra_compose(command: str, overrides: Sequence[str]) -> tuple[DictConfig, dict[str, Any]]:
    config = hydra.compose(command, list(overrides), return_hydra_config=True)
    # A teacher's option takes in the network's own, which says less: it has no pooling.
    choices = {g: o for g, o in config.hydra.runtime.choices.items() if "/" not in g and g != "model@teacher"}
    keys = {f.name for f in fields(schema.COMMANDS[command])}
    with open_dict(config):
        del config["hydra"]
        for group in [g for g in choices if role_of(g) in config and role_of(g) not in keys]:
            del config[group], choices[group]  # what a data set chooses for another command
        if command == "mimic" and "loss" not in choices:  # Hydra does not say which, where several are chosen
            names = list(kinds(config.loss)) if config.get("loss") else []
            if not names:
                raise InputError("loss=[]: give at least one loss")
            config.loss.name = "-".join(names)
            choices["loss"] = names if len(names) > 1 else names[0]
    return config, choices


def _choose(group: str, option: Any) -> str:
    """The override that chooses an option; quoted, for stage=1 would be a number."""
    return f"{group}=[{','.join(option)}]" if isinstance(option, list) else f"{group}='{option}'"


def _keys_of_groups(command: str, values: Mapping[str, Any]) -> Iterator[tuple[str, type]]:
    """The groups whose options have keys of known types, with those types."""
    for group, keys in schema.GROUP_KEYS[command]:
        if values[group] and any(f.name in values[group] for f in fields(keys)):
            yield group, keys


def _key_of(override: str) -> str:
    return str(OverridesParser.create().parse_override(override).key_or_group)


def _fill_in(config: DictConfig, saved: Mapping[str, Any], typed: set[str]) -> None:
    for dotted, value in saved.items():
        node, _, name = dotted.rpartition(".")
        parent = OmegaConf.select(config, node) if node else config
        keys = parent.keys() if isinstance(parent, DictConfig) else ()  # `in parent` would miss a key set to ???
        is_projection = dotted == "model.projection" and value  # mimic's, which the network's file need not name
        if dotted not in typed and (name in keys or is_projection):
            OmegaConf.update(config, dotted, value, merge=False, force_add=True)


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
        if (dotted in raw_reference and raw_reference[dotted] == value) or dotted.startswith(("published.", "recipe.")):
            continue
        alone = config.copy()
        OmegaConf.update(alone, dotted, raw_reference.get(dotted), merge=False)
        before = OmegaConf.select(alone, dotted, throw_on_missing=False)
        before = OmegaConf.to_container(before) if OmegaConf.is_config(before) else before
        if values[dotted] != before:
            changed[dotted] = values[dotted]
    return changed | _from_recipe(config, raw, values)


def _from_recipe(config: DictConfig, raw: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Keys that look themselves up in a recipe's `published` table, where that gives another value than no recipe."""
    if not config.get("published"):
        return {}
    without = config.copy()
    without.published = {}
    plain = flatten(OmegaConf.to_container(without, resolve=True))  # type: ignore[arg-type]
    readers = [name for name, value in raw.items() if "published." in str(value)]
    return {name: values[name] for name in readers if values[name] != plain[name]}
