"""From overrides to a Job: composed by Hydra, resolved, checked, and compared with what its options give alone."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import InterpolationToMissingValueError, MissingMandatoryValue

from lshfm.config import CONF_DIR, resolvers, schema  # noqa: F401 - resolvers: so that they are there
from lshfm.config.catalogue import register_teachers
from lshfm.config.changes import changed_keys, fill_in, flatten
from lshfm.config.check import check, check_choices, check_homes, is_group, key_types, losses, role_of, settings_of
from lshfm.config.presets import chosen_by_presets
from lshfm.errors import InputError

S = TypeVar("S", schema.Train, schema.Mimic, schema.Eval, schema.Check, schema.Predict, schema.Export)


@dataclass(frozen=True)
class Job(Generic[S]):
    """One run's settings, resolved and checked."""

    settings: S
    changed: dict[str, Any]  # dotted key -> value, where it differs from what the chosen options give alone
    folders: tuple[Path, ...] = ()  # of --config-dir, with options of the user's own
    typed: tuple[str, ...] = field(default=(), compare=False)  # the command line


def compose(
    keys: type[S], overrides: Sequence[str], saved: Mapping[str, Any] | None = None, *, typed: Sequence[str] = ()
) -> Job[S]:
    """Compose the command of `keys` with `overrides`, resolve everything and check it.

    saved: dotted keys with values that hold wherever no override names the key (a checkpoint's settings). typed: the
    command line as the user gave it, for the record.
    Raises InputError for a value that is missing, of the wrong type or out of range, naming the key.
    """
    kept, choices = compose_unchecked(keys.command, overrides)
    config = kept.copy()
    check_choices(keys, config, choices)
    if saved:
        fill_in(config, saved, typed={_key_of(override) for override in overrides})
    values = _plain(config)
    resolved = flatten(values)  # as they were given: `check` converts
    check(values, keys)
    check_homes(flatten(values))
    settings = settings_of(keys, values, {role_of(group): option for group, option in choices.items()})
    chosen = [_choose(group, option) for group, option in choices.items() if option and group != "experiment"]
    reference, _ = compose_unchecked(keys.command, chosen)
    return Job(settings, changed_keys(config, reference, resolved), tuple(config_folders()), tuple(typed))


def check_alone(keys: type[schema.Settings], overrides: Sequence[str]) -> dict[str, Any]:
    """The values of a command's keys beside its groups, checked. Raises InputError as `compose` does."""
    kept, _ = compose_unchecked(keys.command, overrides)
    config = kept.copy()
    with open_dict(config):
        for name in [name for name, hint in key_types(keys).items() if is_group(hint)]:
            config[name] = None
    values = _plain(config)
    check(values, keys)
    return values


WHERE = {
    "checkpoint": ", the name of a trained network (`lshfm runs` lists them) or a file",
    "format": f", one of {', '.join(schema.FORMATS)}",
}


def peek(command: str, overrides: Sequence[str], dotted: str) -> Any:
    """One value of a command, read while others may still be missing. Raises InputError if it is not given."""
    config, _ = compose_unchecked(command, overrides)
    value = OmegaConf.select(config, dotted, throw_on_missing=False)
    if value is None:
        raise InputError(f"not given: {dotted}. Add {dotted}=...{WHERE.get(dotted, '')}")
    check_homes({dotted: value})
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def hydra_ready(folders: Sequence[Path] = ()) -> AbstractContextManager[None]:
    """`conf_folder(folders)`, unless a running command's Hydra is there already."""
    return nullcontext() if GlobalHydra.instance().is_initialized() else conf_folder(folders)


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
    """The folders that --config-dir names, as absolute paths."""
    entries = GlobalHydra.instance().config_loader().get_search_path().get_path()
    paths = [entry.path for entry in entries if entry.provider == "command-line" and entry.path]
    return [Path(path.removeprefix("file://")).absolute() for path in paths]


def to_yaml(values: Mapping[str, Any]) -> str:
    """Plain values as YAML text."""
    return OmegaConf.to_yaml(OmegaConf.create(dict(values)))


def compose_unchecked(command: str, overrides: Sequence[str]) -> tuple[DictConfig, dict[str, Any]]:
    """The composed settings, neither resolved nor checked, and each group's option by the group's spelling in conf/.

    Both may be kept for the next one who asks: whoever changes them makes copies.
    """
    if command != "mimic":
        return _with_presets(command, overrides, *_first(command, overrides))
    # The data set's preset may choose student and teacher: until it is known, any of their keys is accepted (++).
    strict = [word.removeprefix("++") if word.startswith(("++student.", "++teacher.")) else word for word in overrides]
    lenient = [f"++{word}" if word.startswith(("student.", "teacher.")) else word for word in strict]
    config, choices = _first(command, lenient)
    presets = config.dataset.preset if config.get("dataset") else {}
    left_open = [group for group, option in choices.items() if option is None and presets.get(role_of(group))]
    if left_open or strict != lenient:
        strict += [f"{group}={presets[role_of(group)]}" for group in left_open]
        config, choices = _first(command, strict)
    return _with_presets(command, strict, config, choices)


def _first(command: str, overrides: Sequence[str]) -> tuple[DictConfig, dict[str, Any]]:
    """As composed with what is typed alone, or with the data set's presets where keys of their losses are typed."""
    try:
        return _hydra_compose(command, overrides)
    except ConfigCompositionException:
        lenient = [f"++{word}" if word.startswith(("loss.", "label_loss.")) else word for word in overrides]
        if lenient == list(overrides):
            raise
        added = chosen_by_presets(overrides, *_hydra_compose(command, lenient))
        if not added:
            raise
        return _hydra_compose(command, [*overrides, *added])


def _with_presets(
    command: str, overrides: Sequence[str], config: DictConfig, choices: dict[str, Any]
) -> tuple[DictConfig, dict[str, Any]]:
    """The composed settings, with label loss, loss and stage of the data set's preset or task unless these were chosen.

    By the user or a recipe.
    """
    added = chosen_by_presets(overrides, config, choices)
    return _hydra_compose(command, [*overrides, *added]) if added else (config, choices)


def _hydra_compose(command: str, overrides: Sequence[str]) -> tuple[DictConfig, dict[str, Any]]:
    """The settings, with keys set as Hydra sets them, and the options of the groups.

    Choosing options takes Hydra a tenth of a second, setting keys next to nothing: what was chosen is kept, unless it
    holds files of the user's.
    """
    if config_folders():
        return _trimmed(command, *_composed(command, overrides))
    return _kept(command, tuple(overrides))


@lru_cache(maxsize=64)
def _kept(command: str, overrides: tuple[str, ...]) -> tuple[DictConfig, dict[str, Any]]:
    chosen, keys = _parted(overrides)
    config, choices = _kept_options(command, chosen)
    config, choices = config.copy(), dict(choices)
    ConfigLoaderImpl._apply_overrides_to_config(keys, config)
    return _trimmed(command, config, choices)


def _parted(overrides: Sequence[str]) -> tuple[tuple[str, ...], list[Override]]:
    """The overrides that choose options, or are Hydra's to refuse; and those of keys, parsed."""
    repository = GlobalHydra.instance().config_loader().repository  # type: ignore[attr-defined]
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    is_key = [_is_of_key(each, repository) for each in parsed]
    chosen = tuple(word for word, of_key in zip(overrides, is_key, strict=True) if not of_key)
    return chosen, [each for each, of_key in zip(parsed, is_key, strict=True) if of_key]


def _is_of_key(override: Override, repository: IConfigRepository) -> bool:
    name = str(override.key_or_group)
    is_of_hydra = name.startswith(("hydra.", "hydra/")) or override.is_sweep_override() or override.package is not None
    return not is_of_hydra and not repository.group_exists(name)


@lru_cache(maxsize=64)
def _kept_options(command: str, chosen: tuple[str, ...]) -> tuple[DictConfig, dict[str, Any]]:
    return _composed(command, chosen)


def _composed(command: str, overrides: Sequence[str]) -> tuple[DictConfig, dict[str, Any]]:
    config = hydra.compose(command, list(overrides), return_hydra_config=True)
    # A teacher's option takes in the network's own, which says less: it has no pooling.
    choices = {g: o for g, o in config.hydra.runtime.choices.items() if "/" not in g and g != "model@teacher"}
    with open_dict(config):
        del config["hydra"]
    return config, choices


def _trimmed(command: str, config: DictConfig, choices: dict[str, Any]) -> tuple[DictConfig, dict[str, Any]]:
    keys = key_types(schema.COMMANDS[command])
    with open_dict(config):
        for group in [g for g in choices if role_of(g) in config and role_of(g) not in keys]:
            del config[group], choices[group]  # what a data set chooses for another command
        if command == "mimic" and "loss" not in choices:  # Hydra does not say which, where several are chosen
            names = list(losses(config.loss)) if config.get("loss") else []
            if not names:
                raise InputError("loss=[]: give at least one loss")
            config.loss.name = "-".join(names)
            choices["loss"] = names if len(names) > 1 else names[0]
    return config, choices


def _choose(group: str, option: Any) -> str:
    """The override that chooses an option; quoted, for stage=1 would be a number."""
    return f"{group}=[{','.join(option)}]" if isinstance(option, list) else f"{group}='{option}'"


def _key_of(override: str) -> str:
    return str(OverridesParser.create().parse_override(override).key_or_group)


def _plain(config: DictConfig) -> dict[str, Any]:
    try:
        values = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except (MissingMandatoryValue, InterpolationToMissingValueError) as error:
        raw = flatten(OmegaConf.to_container(config))  # type: ignore[arg-type]
        missing = sorted(name for name, value in raw.items() if value == "???")
        add = " ".join(f"{name}=...{WHERE.get(name, '')}" for name in missing)
        raise InputError(f"not given: {', '.join(missing)}. Add {add}") from error
    assert isinstance(values, dict)
    return {str(name): value for name, value in values.items()}
