"""Running a command under Hydra, and saying in plain words what Hydra finds wrong."""

import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import hydra
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lshfm.config import CONF_DIR, schema
from lshfm.config.compose import flatten, hydra_ready
from lshfm.errors import InputError, RunFailed, nearest

# Groups known by their role, and the group whose options they take.
OPTIONS_OF = {"student": "model", "label_loss": "loss"}


_OWN = uuid4()  # where a launcher's process imports this anew, it gets another


def launch(command: str, task: Callable[[list[str]], None], elsewhere: Callable[[Callable[[], None]], None]) -> None:
    """Let Hydra read sys.argv and call `task` with the overrides, once a job; a sweep's jobs all get their turn.

    elsewhere: given a job's work in a process that Hydra's launcher has started; its errors cannot be raised here.
    Raises the first job's error, RunFailed for a job that a launcher reports as failed, and InputError for whatever
    Hydra does not accept.
    """
    errors: list[Exception] = []  # kept from Hydra, which would print them in its own way
    here = _process()

    def work() -> None:
        try:
            _require_sweep()
            task(list(HydraConfig.get().overrides.task))
        except (HydraException, OmegaConfBaseException) as error:
            raise explain(command, error) from error

    def job(_config: DictConfig) -> None:
        if _process() != here:
            elsewhere(work)
            return
        try:
            work()
        except Exception as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    _set_up_logs()
    main = hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name=command)(job)
    try:
        main()
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
        raise explain(command, error) from error
    except RuntimeError as error:
        if isinstance(error, RecursionError):
            raise
        raise not_launched(error) from error
    except SystemExit as stop:  # Hydra's own argument parser: --hydra-help, or a flag it does not know
        if stop.code not in (0, None):
            raise InputError(f"see lshfm {command} --help") from stop
    if errors:
        raise errors[0]


def _process() -> tuple[int, UUID]:
    """What tells this process from all others; a number alone may come again on another machine."""
    return os.getpid(), _OWN


def _set_up_logs() -> None:
    """Hydra's own log is silent, for what it logs it also raises; what a launcher does is shown as our log is."""
    logging.getLogger("hydra").setLevel(logging.CRITICAL)
    launchers = logging.getLogger("hydra_plugins")
    launchers.handlers = logging.getLogger("lshfm").handlers
    launchers.setLevel(logging.INFO)


def _require_sweep() -> None:
    """A launcher would do nothing for a single run."""
    config = HydraConfig.get()
    launcher = config.runtime.choices["hydra/launcher"]
    if config.mode is RunMode.RUN and launcher != "basic":
        raise InputError(f"hydra/launcher={launcher} takes -m, for one job too")


def not_launched(error: RuntimeError) -> RunFailed:
    """What submitit says of a job that failed or was not taken, with the job's own message if it had one."""
    match = re.search(r"(?:with path|-) (/.+)_\d+_(?:result\.pkl|log\.out)", str(error))
    if not match:
        return RunFailed(f"no job was submitted: {error}")
    job = Path(match[1])
    logs = (log.read_text(errors="replace") for log in sorted(job.parent.glob(f"{job.name}_*_log.out")))
    said = re.findall(r"^lshfm: error: (.+)", "\n".join(logs), re.MULTILINE)
    state = re.search(r"state: ([^)]+)\)", str(error))
    return RunFailed(
        f"job {job.name} ended{f' as {state[1]}' if state else ''}{f': {said[-1]}' if said else ''}. "
        f"See {job}_*_log.out; other jobs of the sweep go on."
    )


def num_gpus(gpus: Any) -> int | None:
    """How many GPUs of a machine `gpus=` means, None on the CPU; for a launcher to ask for them."""
    if gpus is None:
        return 1
    return (len(gpus) if isinstance(gpus, list | ListConfig) else gpus) or None


def num_tasks(gpus: Any, ranks: int | None) -> int:
    """How many processes share a job on one machine."""
    return num_gpus(gpus) or ranks or 1


OmegaConf.register_new_resolver("num_gpus", num_gpus, replace=True)
OmegaConf.register_new_resolver("num_tasks", num_tasks, replace=True)


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
    if "'hydra/launcher/submitit" in text:
        return InputError("SLURM's launcher is an extra: pip install 'lshfm[slurm]'")
    if match := re.search(r"Could not (?:find|load) '((?:hydra/)?[\w@]+)/([^']*)'", text):
        group, option = match.groups()
        typed = (word.partition("=")[0].rpartition("@")[2] for word in sys.argv if word.endswith(f"={option}"))
        group = next(typed, group)
        known = options(group)
        return InputError(f"{group}={option}: no such {group}{nearest(option, known)}. There are: {', '.join(known)}")
    if match := re.search(r"Could not override '([^']+)'|Error merging override \+*([\w.@/]+)=", text):
        name = (match.group(1) or match.group(2)).rpartition("@")[2]
        if name.startswith("hydra."):
            return InputError(f"{name}: no such key of Hydra's. See lshfm {command} --cfg hydra")
        known = _all_keys(command, sys.argv[1:])
        return InputError(f"{name}: no such key or group{nearest(name, known)}. See lshfm {command} --help")
    if "Config group override" in text:
        return InputError(f"{'=, '.join(groups(command))}= each take an option's name; one is given something else")
    if isinstance(error, OverrideParseException):
        return InputError(f"cannot read {error.override!r}: an argument is GROUP=OPTION or KEY=VALUE")
    if "Ambiguous value" in text:
        return InputError(f"several values for one key make a sweep, which takes -m: {text.splitlines()[0]}")
    if match := re.search(r"node `([\w.]+)` is not a container", text):
        return InputError(f"{match[1]}: must be keys, as {match[1]}.KEY=...")
    if isinstance(error, yaml.YAMLError):
        return InputError(f"a YAML file cannot be read: {' '.join(text.split())}")
    lines = [line for line in text.splitlines() if line and "object_type" not in line and "full_key" not in line]
    return InputError(lines[0] if lines else type(error).__name__)


def _all_keys(command: str, words: Sequence[str]) -> list[str]:
    """Groups and keys of a command, with the options that `words` choose."""
    plain = [word for word in words if re.fullmatch(r"[\w@]+='?[\w.-]+'?", word)]  # what else is no option's name
    chosen = [word for word in plain if word.partition("=")[0].rpartition("@")[2] in groups(command)]
    with hydra_ready():
        config = hydra.compose(command, chosen)
    return groups(command) + list(flatten(OmegaConf.to_container(config)))  # type: ignore[arg-type]
