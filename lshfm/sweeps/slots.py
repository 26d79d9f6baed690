"""Where jobs of a sweep run: a slot is a place for one job at a time, on some GPUs or on a share of the cores."""

import ctypes
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lshfm.checks import device_numbers
from lshfm.config.sweeping import Sweep
from lshfm.errors import InputError, count

SECONDS_TO_ANSWER = 60.0


@dataclass(frozen=True)
class Slot:
    """A place for a job. gpus: the CUDA devices of it; none on a CPU."""

    gpus: tuple[int, ...]
    number: int  # of those on the same GPUs, or on the CPU, from 1

    @property
    def device(self) -> str:
        """Its name for people."""
        return f"GPU {','.join(map(str, self.gpus))}" if self.gpus else "CPU"

    @property
    def words(self) -> tuple[str, ...]:
        """What a job is told."""
        return (f"gpus=[{','.join(map(str, self.gpus))}]",)


def slots(sweep: Sweep, gpus: Any) -> list[Slot]:
    """The places for jobs. gpus: those that the sweep has, as gpus= says. Raises InputError for too few of them."""
    pool = list(range(num_gpus())) if gpus is None else device_numbers(gpus)
    if not pool:
        return [Slot((), number) for number in range(1, sweep.jobs + 1)]
    each = sweep.gpus_per_job
    if each > len(pool):
        raise InputError(f"sweep.gpus_per_job={each}: there are {count(len(pool), 'GPU')}")
    groups = [tuple(pool[start : start + each]) for start in range(0, len(pool) - each + 1, each)]
    return [Slot(group, number) for number in range(1, sweep.jobs_per_gpu + 1) for group in groups]


def num_gpus() -> int:
    """How many CUDA devices there are, by the driver, for torch would take seconds to import."""
    found = ctypes.c_int(0)
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        is_there = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(found)) == 0
    except (OSError, AttributeError):
        return 0
    return found.value if is_there else 0


def threads(places: Sequence[Slot]) -> int:
    """The threads of a job, so that all of them together have one a core."""
    return max(num_cores() // len(places), 1)


def num_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def environment(places: Sequence[Slot]) -> dict[str, str]:
    """The jobs' environment; several side by side share the cores, unless OMP_NUM_THREADS says otherwise."""
    shared = {"OMP_NUM_THREADS": str(threads(places))} if len(places) > 1 else {}
    return shared | os.environ


def answers(slot: Slot) -> bool:
    """Whether the slot's GPUs still compute, by a tensor on each."""
    code = f"import torch; [torch.ones(1, device=f'cuda:{{n}}').item() for n in {list(slot.gpus)}]"
    try:
        tried = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, timeout=SECONDS_TO_ANSWER, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return tried.returncode == 0
