"""Runs a command under Hydra, which parses the arguments, runs sweeps (-m) and starts launchers such as SLURM's."""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lshfm.config import CONF_DIR
from lshfm.config.compose import conf_folder
from lshfm.config.explain import explain, not_launched
from lshfm.config.parser import args_parser
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
    jobs = _Jobs(command, task, elsewhere)
    _set_up_logs()
    with _launched(command), explained(command):
        jobs.titles |= enumerate(checked_sweep(sys.argv[1:], check))
        hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name=command)(jobs.run)()
    jobs.end()


class _Jobs:
    """The jobs of a command as Hydra runs them; their errors are kept from it, for it prints them in its own way."""

    def __init__(
        self, command: str, task: Callable[[list[str]], None], elsewhere: Callable[[Callable[[], None]], None]
    ) -> None:
        self.titles: dict[int, str] = {}  # by number, of a sweep
        self._command, self._task, self._elsewhere = command, task, elsewhere
        self._errors: dict[str, Exception] = {}  # by title
        self._process = _process()

    def run(self, _config: DictConfig) -> None:
        """The job that Hydra has composed: done here, or in the process that a launcher has started for it."""
        if _process() != self._process:
            self._elsewhere(self._work)
            return
        title = self.titles[HydraConfig.get().job.num] if self.titles else self._command
        if self.titles:
            logger.info(title)
        try:
            self._work()
        except Exception as error:  # noqa: BLE001 - raised again at the end
            self._errors[title] = error

    def _work(self) -> None:
        try:
            _require_sweep()
            self._task(list(HydraConfig.get().overrides.task))
        except (HydraException, OmegaConfBaseException) as error:
            raise explain(self._command, error) from error

    def end(self) -> None:
        """Name the jobs that failed, and raise the first one's error."""
        failed = len(self._errors)
        if len(self.titles) > 1 and failed:
            listed = "\n".join(f"  {title}" for title in self._errors)
            logger.info("%d of %d jobs failed:\n%s", failed, len(self.titles), listed)
        if failed:
            raise next(iter(self._errors.values()))


@contextmanager
def explained(command: str) -> Iterator[None]:
    """What Hydra complains of while it reads words and files, as our errors."""
    try:
        yield
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
        raise explain(command, error) from error


@contextmanager
def _launched(command: str) -> Iterator[None]:
    """What Hydra's launchers and its parser of flags complain of, as our errors."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, RecursionError):
            raise
        raise not_launched(error) from error
    except SystemExit as stop:  # for --hydra-help, or a flag that Hydra does not know
        if stop.code not in (0, None):
            raise InputError(f"see lshfm {command} --help") from stop


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
            work(list(args_parser().parse_args(words).overrides))
    except (HydraException, OmegaConfBaseException) as error:
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
