"""A function in several ranks at once, each a process of its own, for tests of what ranks do together."""

import multiprocessing
import os
import pickle
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import Store

from lshfm.ranks.group import Place, join, process_group

# Forked off a server that has imported what takes long and done nothing else: the test's own process may have threads.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["torch.nn.parallel", "hypothesis", "pytest", "lshfm.commands.mimic"])


@contextmanager
def grouped(place: Place, store: Store) -> Iterator[None]:
    """This process is one of a group of ranks on CPUs while the block runs."""
    join(place, store, "gloo")
    with process_group(place, store):
        yield


class Died:
    """What is known of a rank that ended without a word."""


def in_ranks(num: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `work(*arguments)`, a module's function, returns in each of `num` ranks; fails if one of them does."""
    ends = ends_of(num, work, *arguments)
    failed = [f"rank {r}: {getattr(end, 'traced', 'died')}" for r, end in enumerate(ends) if _is_bad(end)]
    assert not failed, "\n".join(failed)
    return ends


def ends_of(num: int, work: Callable[..., Any], *arguments: Any, machines: int = 1) -> list[Any]:
    """The same, but an error that ended a rank stands in the place of its result, and Died for none.

    machines: on which the ranks stand, as many on each.
    """
    with tempfile.TemporaryDirectory() as folder:
        ranks = []
        for rank in range(num):
            ours, theirs = CONTEXT.Pipe(duplex=False)
            place = Place(rank, num, rank % (num // machines), num // machines)
            process = CONTEXT.Process(target=_rank, args=(theirs, Path(folder), place, work, arguments))
            process.start()
            theirs.close()
            ranks.append((process, ours))
        try:
            return [_heard(ours) for _, ours in ranks]
        finally:
            for process, ours in ranks:
                process.kill()
                process.join()
                process.close()
                ours.close()


def _heard(connection: Connection) -> Any:
    try:
        return pickle.loads(connection.recv_bytes())
    except EOFError:
        return Died()


def _is_bad(end: Any) -> bool:
    return isinstance(end, BaseException | Died)


def _rank(connection: Connection, folder: Path, place: Place, work: Callable[..., Any], arguments: Any) -> None:
    torch.set_num_threads(1)
    try:
        with grouped(place, dist.FileStore(str(folder / "store"), place.num)):
            dist.barrier()  # one that left while another still connects would be all that the other knows
            end = work(*arguments)
    except BaseException as error:  # noqa: BLE001 - the test judges it
        error.traced = traceback.format_exc()  # type: ignore[attr-defined]
        end = error
    connection.send_bytes(pickle.dumps(end))
    os._exit(0)  # a group that fell apart is not taken down
