"""Running a command under Hydra, and saying in plain words what Hydra finds wrong."""

import logging
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields

import hydra
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lshfm.config import CONF_DIR, schema
from lshfm.config.compose import flatten, hydra_ready
from lshfm.errors import InputError, nearest

# Groups known by their role, and the group whose options they take.
OPTIONS_OF = {"student": "model", "label_loss": "loss"}


def launch(command: str, task: Callable[[list[str]], None]) -> None:
    """Let Hydra read sys.argv and call `task` with the overrides, once a job; a sweep's jobs all get their turn.

    Raises the first job's error, and InputError for whatever Hydra does not accept.
    """
    errors: list[Exception] = []  # kept from Hydra, which would print them in its own way

    def job(_config: DictConfig) -> None:
        try:
            task(list(HydraConfig.get().overrides.task))
        except (HydraException, OmegaConfBaseException) as error:
            errors.append(explain(command, error))
        except Exception as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    logging.getLogger("hydra").setLevel(logging.CRITICAL)  # what it logs, it also raises
    main = hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name=command)(job)
    try:
        main()
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
        raise explain(command, error) from error
    except SystemExit as stop:  # Hydra's own argument parser: --hydra-help, or a flag it does not know
        if stop.code not in (0, None):
            raise InputError(f"see lshfm {command} --help") from stop
    if errors:
        raise errors[0]


def parses(word: str) -> bool:
    """Whether Hydra's grammar takes an override as it stands."""
    try:
        OverridesParser.create().parse_override(word)
    except HydraException:
        return False
    return True


def recipe_command(name: str) -> str | None:
    """The command that a recipe of ours belongs to; None for a name that is no recipe."""
    path = CONF_DIR / "experiment" / f"{name}.yaml"
    if not path.is_file():
        return None
    return str(OmegaConf.select(OmegaConf.load(path), "recipe.command"))


def options(group: str) -> list[str]:
    """The options of a group: conf/'s own, and under a running command those of --config-dir too."""
    name = OPTIONS_OF.get(group, group)
    if GlobalHydra.instance().is_initialized():
        return sorted(GlobalHydra.instance().config_loader().get_group_options(name))
    return sorted(path.stem for path in (CONF_DIR / name).glob("*.yaml"))


def groups(command: str) -> list[str]:
    """The groups a command chooses from, in the order of its defaults list."""
    defaults = OmegaConf.to_container(OmegaConf.load(CONF_DIR / f"{command}.yaml"))["defaults"]  # type: ignore[index,call-overload]
    names = [next(iter(item)).rpartition("@")[2] for item in defaults if isinstance(item, dict)]
    keys = {f.name for f in fields(schema.COMMANDS[command])} | {"experiment"}
    return [name for name in names if name in keys]


def explain(command: str, error: Exception) -> InputError:
    """Hydra's complaint as one of ours, with the nearest right name."""
    text = "\n".join(str(e) for e in (error, error.__cause__) if e is not None)
    if match := re.search(r"Could not find '([\w@]+)/([^']*)'", text):
        group, option = match.groups()
        typed = (word.partition("=")[0].rpartition("@")[2] for word in sys.argv if word.endswith(f"={option}"))
        group = next(typed, group)
        known = options(group)
        return InputError(f"{group}={option}: no such {group}{nearest(option, known)}. There are: {', '.join(known)}")
    if match := re.search(r"Could not override '([^']+)'|Error merging override \+*([\w.@/]+)=", text):
        name = (match.group(1) or match.group(2)).rpartition("@")[2]
        known = _all_keys(command, sys.argv[1:])
        return InputError(f"{name}: no such key or group{nearest(name, known)}. See lshfm {command} --help")
    if "Config group override" in text:
        return InputError(f"{'=, '.join(groups(command))}= each take an option's name; one is given something else")
    if isinstance(error, OverrideParseException):
        return InputError(f"cannot read {error.override!r}: an argument is GROUP=OPTION or KEY=VALUE")
    if "Ambiguous value" in text:
        return InputError(f"several values for one key make a sweep, which takes -m: {text.splitlines()[0]}")
    if isinstance(error, yaml.YAMLError):
        return InputError(f"a YAML file cannot be read: {' '.join(text.split())}")
    lines = [line for line in text.splitlines() if line and "object_type" not in line and "full_key" not in line]
    return InputError(lines[0] if lines else type(error).__name__)


def _all_keys(command: str, words: Sequence[str]) -> list[str]:
    """Groups and keys of a command, with the options that `words` choose."""
    chosen = [word for word in words if word.partition("=")[0].rpartition("@")[2] in groups(command)]
    with hydra_ready():
        config = hydra.compose(command, chosen)
    return groups(command) + list(flatten(OmegaConf.to_container(config)))  # type: ignore[arg-type]
