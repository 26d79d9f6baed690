"""Runs a command's work in every rank: in ranks that torchrun or srun started, else in one for each device."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from lshfm.console import logger
from lshfm.ranks import launch
from lshfm.ranks.device import choose, describe_hardware, name_of
from lshfm.ranks.group import all_gather, num_ranks, on_main, rank
from lshfm.ranks.meeting import joined
from lshfm.ranks.surroundings import surrounding

Work = Callable[[Any, torch.device], Any]


def in_ranks(work: Work, task: Any, *, gpus: Any, ranks: int | None) -> Any:
    """Do `work(task, device)` in every rank that is asked for; in this process if that is one. Returns rank 0's answer.

    work: a module's function that returns what JSON can hold. task: can be pickled; every rank gets rank 0's.
    gpus, ranks: as in device.choose.
    Raises the error or signal of the first rank to fail.
    """
    given = surrounding()
    devices = choose(gpus, ranks, given)
    if given:
        device = devices[given.local_rank]

        answers = []

        def joined_work() -> int:
            with joined(given, device):
                answers.append(work(on_main(lambda: task), device))
            return 0

        if code := launch.outcome_of(joined_work):
            launch.leave_group(given, code)
        return answers[0]
    if len(devices) == 1:
        return work(task, devices[0])
    return launch.start(len(devices), _started, work, task, devices)


def _started(work: Work, task: Any, devices: Sequence[torch.device]) -> Any:
    place = surrounding()
    assert place
    device = devices[place.local_rank]
    with joined(place, device):
        return work(task, device)


def describe(device: torch.device, precision: str) -> dict[str, Any]:
    """The hardware of all ranks and how it computes, for the record."""
    hardware = describe_hardware(device, precision)
    return hardware | ({"ranks": num_ranks()} if num_ranks() > 1 else {})


def log_ranks(
    device: torch.device, *, batch_size: int, accumulate: int, bn_group_size: int | None, sync_bn: bool
) -> None:
    """Say which ranks compute on which devices, and how much of a batch each of them gets."""
    places = all_gather(f"rank {rank()}: {name_of(device)}")
    if len(places) == 1:
        return
    logger.info("%s", "; ".join(places))
    parts = f", in {accumulate} parts" if accumulate > 1 else ""
    groups = f"groups of {bn_group_size}" if bn_group_size else "each rank's own images"
    statistics = "the images of all ranks" if sync_bn else groups
    logger.info(
        "batches of %d images, %d a rank%s; BatchNorm over %s",
        batch_size, batch_size // len(places), parts, statistics,
    )  # fmt: skip
