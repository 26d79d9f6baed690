"""Runs a command under Hydra, which parses the arguments, runs sweeps (-m) and starts launchers such as SLURM's."""

import logging
import os
import sys
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import hydra
import yaml
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lshfm.config import CONF_DIR
from lshfm.config.compose import conf_folder
from lshfm.config.explain import explain, not_launched
from lshfm.config.sweep import checked_sweep
from lshfm.config.words import folders_of
from lshfm.console import logger
from lshfm.errors import InputError

_OWN = uuid4()  # of this process: one that a launcher starts imports this module anew and draws another


def launch(
    command: str,
    task: Callable[[list[str]], None],
    elsewhere: Callable[[Callable[[], None]], None],
    check: Callable[[list[str]], object] | None = None,
) -> None:
    """Let Hydra read sys.argv and call `task` with the overrides of each job; a failed job does not end the sweep.

    elsewhere: called with the job's work in a process that a launcher has started, as its errors cannot be raised in
    the parent. check: called with the overrides of each job of a sweep before the first one starts.
    Raises the first job's error, RunFailed for a job that a launcher reports as failed, and InputError for whatever
    Hydra does not accept.
    """
    if not folders_of(sys.argv[1:]) and answer(command, task):  # files of the user's may set keys of Hydra's
        return
    errors: dict[str, Exception] = {}  # by job; kept from Hydra, which would print them in its own way
    parent_process, titles = _process(), dict[int, str]()

    def work() -> None:
        try:
            _require_sweep()
            task(list(HydraConfig.get().overrides.task))
        except (HydraException, OmegaConfBaseException) as error:
            raise explain(command, error) from error

    def job(_config: DictConfig) -> None:
        if _process() != parent_process:
            elsewhere(work)
            return
        title = titles[HydraConfig.get().job.num] if titles else command
        if titles:
            logger.info(title)
        try:
            work()
        except Exception as error:  # noqa: BLE001 - raised again below
            errors[title] = error

    _set_up_logs()
    main = hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name=command)(job)
    try:
        titles |= enumerate(checked_sweep(sys.argv[1:], check))
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
    if len(titles) > 1 and errors:
        logger.info("%d of %d jobs failed:\n%s", len(errors), len(titles), "\n".join(f"  {each}" for each in errors))
    if errors:
        raise next(iter(errors.values()))


def answer(command: str, work: Callable[[list[str]], None]) -> bool:
    """Call `work` with the overrides in sys.argv, without a run of Hydra's, which composes twice for its own needs.

    Returns whether it could: of sweeps and of Hydra's own flags and keys only Hydra knows. Raises InputError as
    `launch` does.
    """
    words = sys.argv[1:]
    folders = folders_of(words)
    flags = {word.partition("=")[0] for word in words if word.startswith("-")}
    of_hydra = any(word.lstrip("+~").startswith(("hydra.", "hydra/")) for word in words)
    if of_hydra or flags - {"--config-dir", "-cd"} or not all(folder.is_dir() for folder in folders):
        return False
    _set_up_logs()
    try:
        with conf_folder([folder.absolute() for folder in folders]):
            work(list(get_args_parser().parse_args(words).overrides))
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
        raise explain(command, error) from error
    return True


def _process() -> tuple[int, UUID]:
    """Identifies this process; the pid alone may occur on another machine too."""
    return os.getpid(), _OWN


def _set_up_logs() -> None:
    """Hydra's own log is silent, for what it logs it also raises; what a launcher does is shown as our log is."""
    logging.getLogger("hydra").setLevel(logging.CRITICAL)
    launchers = logging.getLogger("hydra_plugins")
    launchers.handlers = logging.getLogger("lshfm").handlers
    launchers.setLevel(logging.INFO)


def _require_sweep() -> None:
    """InputError for a launcher without -m: Hydra would not use it for a single run."""
    config = HydraConfig.get()
    launcher = config.runtime.choices["hydra/launcher"]
    if config.mode is RunMode.RUN and launcher != "basic":
        raise InputError(f"hydra/launcher={launcher} takes -m, for one job too")


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
