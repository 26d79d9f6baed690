"""Joins the ranks that torchrun, srun or the launcher started into a group."""

import contextlib
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from itertools import count
from typing import Any

import torch
from torch._C._distributed_c10d import PrefixStore, Store, TCPStore
from torch.distributed.rendezvous import rendezvous

from lshfm import console
from lshfm.errors import InputError, RunFailed
from lshfm.ranks.device import share_cores
from lshfm.ranks.group import PATIENCE, Place, join, process_group
from lshfm.ranks.surroundings import address, evidence, surrounding
from lshfm.ranks.waiting import spoken_of

MEETING = timedelta(minutes=15)  # that ranks started from outside may take to find each other

_jobs = count()  # of this process: the jobs of a sweep in one group of ranks share a store


@cache
def _store() -> Store:
    """The key-value store of the ranks around this process.

    Raises InputError if the environment does not say where it is, and RunFailed if it is not there.
    """
    place = surrounding()
    assert place
    try:
        if "RANK" in os.environ:
            store: Store = next(rendezvous("env://", timeout=MEETING))[0]
            return store
        host, port = address(os.environ)
        return TCPStore(host, port, place.num, place.rank == 0, timeout=MEETING)
    except ValueError as error:
        raise InputError(f"RANK is set, as torchrun does, but not all that it sets: {error}") from error
    except torch.distributed.DistError as error:
        raise RunFailed(f"rank {place.rank} of {place.num} does not find the others: {error}") from error


@contextmanager
def joined(here: Place, device: torch.device) -> Iterator[None]:
    """The ranks around this process are a group while the block runs; all but rank 0 are silent."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    share_cores(here.local_num)
    backend = "gloo" if device.type == "cpu" else "cpu:gloo,cuda:nccl"
    with _ended_at_once():
        with spoken_of(lambda: _absent(here)):
            store = PrefixStore(f"lshfm-{next(_jobs)}", _store())
        store.set_timeout(PATIENCE)
        join(here, store, backend)
    with process_group(here, store), contextlib.nullcontext() if here.rank == 0 else console.silence():
        yield


def _absent(here: Place) -> str:
    others = f"the other {here.num - 1} ranks" if here.num > 2 else "the other rank"
    return f"rank {here.rank} of {here.num} waits for {others} to start: {evidence()}"


def has_store() -> bool:
    """Whether this process has met other ranks."""
    return _store.cache_info().currsize > 0


@contextmanager
def _ended_at_once() -> Iterator[None]:
    """While the block runs, SIGINT and SIGTERM need no Python: torch does not come back from a wait to handle them."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    heeded = {number: handler for number, handler in handlers.items() if handler not in (signal.SIG_IGN, None)}
    set_handlers(dict.fromkeys(heeded, signal.SIG_DFL))
    try:
        yield
    finally:
        set_handlers(heeded)


def set_handlers(handlers: Mapping[signal.Signals, Any]) -> None:
    """Handle signals so from now on."""
    for number, handler in handlers.items():
        signal.signal(number, handler)
