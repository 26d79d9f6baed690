"""A network that all ranks train together, and how long each rank computed before it met the others."""

import inspect
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch._C._distributed_c10d import GradBucket
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

# DDP copies no buffers: group.share_buffers does, before they are used. torch 2.14 renamed the argument.
_NEW = "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
LEAVE_BUFFERS: dict[str, Any] = {"forward_sync_buffers" if _NEW else "broadcast_buffers": False}


class Clock:
    """Counts seconds of training: `total`, and of these `busy`, in which this rank did not wait for others."""

    def __init__(self) -> None:
        self.total = self.busy = 0.0
        self.restart()

    def restart(self) -> None:
        """Count from now: the time since the last step was no training."""
        self._since = time.perf_counter()

    def arrive(self) -> None:
        """This rank's gradients of a step are computed; from here on it waits for the others'."""
        self.busy += time.perf_counter() - self._since

    def lap(self) -> None:
        """A step is done: count its time."""
        now = time.perf_counter()
        self.total, self._since = self.total + now - self._since, now

    def take(self) -> tuple[float, float]:
        """(total, busy) since the last call; both start again at 0."""
        taken = self.total, self.busy
        self.total = self.busy = 0.0
        return taken


def replicate(module: nn.Module, clock: Clock) -> nn.Module:
    """The module, wrapped so that all ranks average its gradients; as it is where there is no group of ranks.

    What does not learn must be frozen before.
    """
    if not dist.is_initialized():
        return module
    replica = DistributedDataParallel(module, gradient_as_bucket_view=True, **LEAVE_BUFFERS)

    everyone = dist.group.WORLD
    assert everyone

    def average(_: object, bucket: GradBucket) -> torch.futures.Future[torch.Tensor]:
        if bucket.is_last():
            clock.arrive()
        return allreduce_hook(everyone, bucket)

    replica.register_comm_hook(None, average)
    return replica


def unwrapped(module: nn.Module) -> nn.Module:
    """The module that `replicate` was given; to be wrapped anew once other parts of it learn."""
    return module.module if isinstance(module, DistributedDataParallel) else module


def alone(module: nn.Module) -> AbstractContextManager[None]:
    """Within it a replica only accumulates gradients, without averaging them: more parts of the batch follow."""
    return module.no_sync() if isinstance(module, DistributedDataParallel) else nullcontext()
