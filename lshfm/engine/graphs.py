"""Recording a step's work once, so that it can be repeated without Python: on a GPU as one CUDA graph."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, Protocol

import torch


class NotCapturable(Exception):
    """A step does something that no recording repeats; the message says what."""


class Graphs(Protocol):
    """What records work. Tests have one for a CPU."""

    def warm_up(self, work: Callable[[], object], times: int) -> None:
        """Do the work so many times, so that what is chosen and compiled at first use is there.

        Raises what the work raises, and where the last time it did what no recording repeats.
        """
        ...

    def record(self, work: Callable[[], object]) -> Callable[[], None]:
        """A function that repeats the work's kernels on the tensors that they had, and nothing that Python did.

        Recording may do the work once or not at all.
        """
        ...


class CudaGraphs:
    """CUDA graphs of the current device, each with memory of its own.

    pool: memory that several graphs share, of which no two run at once; as torch.cuda.graph_pool_handle gives it.
    """

    def __init__(self, pool: Any = None) -> None:
        self.pool = pool

    def warm_up(self, work: Callable[[], object], times: int) -> None:
        """On a stream of its own, as recording needs it. The last time the host may not wait for the device.

        Waiting would end a recording as well, but leave allocator and random numbers half-way.
        """
        torch.cuda.empty_cache()  # what other streams have used and left is of no use to this one
        stream, current = torch.cuda.Stream(), torch.cuda.current_stream()
        stream.wait_stream(current)
        try:
            with torch.cuda.stream(stream):
                for number in range(times):
                    with no_waiting() if number == times - 1 else nullcontext():
                        work()
        finally:
            current.wait_stream(stream)  # also before what a failure has begun is put back

    def record(self, work: Callable[[], object]) -> Callable[[], None]:
        """The work is not done while it is recorded. Other threads may use the device meanwhile.

        Where it fails, the device is as it was before, and the error is the work's own.
        """
        graph, pool = torch.cuda.CUDAGraph(), self.pool or torch.cuda.graph_pool_handle()
        faults: list[Exception] = []
        with _put_right_on_failure(pool, faults), torch.cuda.graph(graph, pool, capture_error_mode="thread_local"):
            try:
                work()
            except Exception as error:
                faults.append(error)
                raise
        return graph.replay


@contextmanager
def no_waiting() -> Iterator[None]:
    """Within the block an operation that makes the host wait for the device raises RuntimeError."""
    before = torch.cuda.get_sync_debug_mode()
    try:
        _set_sync_debug_mode("error")
        yield
    finally:
        _set_sync_debug_mode(before)


def _set_sync_debug_mode(mode: int | str) -> None:
    """As torch's, which warns that it is a prototype: users can do nothing about that."""
    with warnings.catch_warnings(action="ignore"):
        torch.cuda.set_sync_debug_mode(mode)


@contextmanager
def _put_right_on_failure(pool: Any, faults: list[Exception]) -> Iterator[None]:
    """Where the block fails, undo what a capture leaves that cannot be ended; raise the first fault, if it is known.

    torch then stays on the capture's stream, its generator waits for the end of the capture, and the allocator keeps
    all memory that two streams have used.
    """
    stream, device = torch.cuda.current_stream(), torch.cuda.current_device()
    generator = torch.cuda.default_generators[device]
    random = generator.clone_state()
    try:
        yield
    except Exception as error:  # noqa: BLE001 - it is raised again, or the fault that it came of
        torch.cuda.set_stream(stream)
        generator.graphsafe_set_state(random)
        with suppress(RuntimeError, AttributeError):  # the capture has been ended
            torch._C._cuda_endAllocateToPool(device, pool)
            torch._C._cuda_releasePool(device, pool)
        raise faults[0] if faults else error from None
