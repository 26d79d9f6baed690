"""Recording a step's work once, so that it can be repeated without Python: on a GPU as one CUDA graph."""

from collections.abc import Callable
from typing import Protocol

import torch


class NotCapturable(Exception):
    """A step does something that no recording repeats; the message says what."""


class Graphs(Protocol):
    """What records work. Tests have one for a CPU."""

    def warm_up(self, work: Callable[[], object], times: int) -> None:
        """Do the work so many times, so that what is chosen and compiled at first use is there."""
        ...

    def record(self, work: Callable[[], object]) -> Callable[[], None]:
        """A function that repeats the work's kernels on the tensors that they had, and nothing that Python did.

        Recording may do the work once or not at all.
        """
        ...


class CudaGraphs:
    """CUDA graphs of the current device, each with memory of its own."""

    def warm_up(self, work: Callable[[], object], times: int) -> None:
        """On a stream of its own, as recording needs it."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(times):
                work()
        torch.cuda.current_stream().wait_stream(stream)

    def record(self, work: Callable[[], object]) -> Callable[[], None]:
        """The work is not done while it is recorded. Other threads may use the device meanwhile."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            work()
        return graph.replay
