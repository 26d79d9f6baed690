"""A command's work in every rank: those around this process, or one started for each device."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from lshfm.config.compose import conf_folder, config_folders
from lshfm.console import logger
from lshfm.ranks import device, launch
from lshfm.ranks.group import all_gather, num_ranks, on_main, rank

Work = Callable[[Any, torch.device], None]


def in_ranks(work: Work, jobs: Any, values: Mapping[str, Any]) -> None:
    """Do `work(jobs, device)` in every rank that the settings `values` ask for, at once here if that is one.

    work: a module's function. jobs: plain values; rank 0's hold for all. Raises what ended the first rank to fail.
    """
    here = launch.surrounding()
    devices = device.choose(values["gpus"], values["ranks"], here)
    if here:
        own, where = here, devices[here.local_rank]

        def task() -> int:
            with launch.joined(own, where):
                work(on_main(lambda: jobs), where)
            return 0

        if code := launch.outcome_of(task):
            launch.leave_group(here, code)
    elif len(devices) == 1:
        work(jobs, devices[0])
    else:
        launch.start(len(devices), _started, work, jobs, devices, config_folders())


def _started(work: Work, jobs: Any, devices: Sequence[torch.device], folders: Sequence[Path]) -> None:
    here = launch.surrounding()
    assert here
    where = devices[here.local_rank]
    with launch.joined(here, where), conf_folder(folders):
        work(jobs, where)


def describe(where: torch.device, values: Mapping[str, Any]) -> dict[str, Any]:
    """The hardware of all ranks and how it computes, for the record."""
    own = device.describe(where, values["precision"])
    return own | ({"ranks": num_ranks()} if num_ranks() > 1 else {})


def log_ranks(where: torch.device, values: Mapping[str, Any]) -> None:
    """Say which ranks compute on which devices, and how much of a batch each of them gets."""
    places = all_gather(f"rank {rank()}: {device.name(where)}")
    if len(places) == 1:
        return
    logger.info("%s", "; ".join(places))
    parts = f", in {values['accumulate']} parts" if values["accumulate"] > 1 else ""
    logger.info(
        "batches of %d images, %d a rank%s; BatchNorm over %s",
        values["batch_size"], values["batch_size"] // len(places), parts, _statistics(values),
    )  # fmt: skip


def _statistics(values: Mapping[str, Any]) -> str:
    if values["sync_bn"]:
        return "the images of all ranks"
    if values["bn_group_size"]:
        return f"groups of {values['bn_group_size']}"
    return "each rank's own images"
