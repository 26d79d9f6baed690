"""CUDA graphs on a machine without CUDA: the calls that are made of torch, in what order, and after failures."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from lshfm.engine.graphs import CudaGraphs
from lshfm.engine.step import make_step
from lshfm.losses.classification import BCE
from lshfm.objectives.supervised import Supervised
from tests.engine.test_captured import Network, assemble, batches, contents, equal, trained


class Device:
    """A device whose captures cannot be ended once something in them has waited, as CUDA's cannot."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.pools: list[str] = []
        self.stream, self.mode = "main", 0
        self.is_capturing = self.is_broken = self.pools_open = False
        self.generator = "generator"

    def set_mode(self, mode: int | str) -> None:
        """As torch's, which warns of a prototype."""
        self.mode = mode  # type: ignore[assignment]
        warnings.warn("Synchronization debug mode is a prototype feature", stacklevel=2)

    def wait_for_it(self) -> None:
        """What `.item()` comes to."""
        if self.mode == "error":
            raise RuntimeError("called a synchronizing CUDA operation")
        if self.is_capturing:
            self.is_broken = True
            raise RuntimeError("operation not permitted when stream is capturing")


class Stream:
    def __init__(self, device: Device, name: str = "side") -> None:
        self.device, self.name = device, name

    def wait_stream(self, other: "Stream") -> None:
        self.device.calls.append(f"{self.name} waits for {other.name}")


class Generator:
    def __init__(self, device: Device) -> None:
        self.device = device

    def clone_state(self) -> str:
        return "a copy"

    def graphsafe_set_state(self, state: str) -> None:
        self.device.generator = state


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    there = Device()

    @contextmanager
    def within(stream: Stream) -> Iterator[None]:
        before, there.stream = there.stream, stream.name
        yield
        there.stream = before

    class Graph:
        def replay(self) -> None:
            there.calls.append("replay")

    class Capture:
        """As torch's: where the capture cannot be ended, its stream stays the current one."""

        def __init__(self, graph: Graph, pool: str, capture_error_mode: str) -> None:
            assert capture_error_mode == "thread_local"
            there.pools.append(pool)

        def __enter__(self) -> None:
            there.stream, there.is_capturing, there.is_broken, there.pools_open = "capture", True, False, True

        def __exit__(self, *_: object) -> None:
            there.is_capturing = False
            if there.is_broken:
                raise RuntimeError("operation failed due to a previous error during capture")
            there.stream, there.pools_open = "main", False

    def end_pool(number: int, pool: str) -> None:
        if not there.pools_open:
            raise RuntimeError("not currently recording to the pool")
        there.pools_open = False

    cuda: dict[str, Any] = {
        "Stream": lambda: Stream(there), "current_stream": lambda: Stream(there, there.stream), "stream": within,
        "CUDAGraph": Graph, "graph": Capture, "graph_pool_handle": lambda: "pool", "current_device": lambda: 0,
        "default_generators": [Generator(there)],
        "set_stream": lambda stream: setattr(there, "stream", stream.name),
        "get_sync_debug_mode": lambda: there.mode, "set_sync_debug_mode": there.set_mode,
    }  # fmt: skip
    for name, value in cuda.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", end_pool, raising=False)
    monkeypatch.setattr(torch._C, "_cuda_releasePool", lambda *_: None, raising=False)
    return there


def test_the_last_time_of_warming_up_may_not_wait(device: Device) -> None:
    modes: list[object] = []
    CudaGraphs().warm_up(lambda: modes.append((device.stream, device.mode)), 3)
    assert modes == [("side", 0), ("side", 0), ("side", "error")]
    assert (device.mode, device.calls) == (0, ["side waits for main", "main waits for side"])


def test_what_fails_while_warming_up_is_done_before_anything_is_put_back(device: Device) -> None:
    with pytest.raises(RuntimeError, match="synchronizing"):
        CudaGraphs().warm_up(device.wait_for_it, 1)
    assert (device.mode, device.calls[-1]) == (0, "main waits for side")


def test_a_capture_that_cannot_be_ended_leaves_the_device_as_it_was(device: Device) -> None:
    """On torch's stream, generator and allocator all later steps would fail, or keep their memory for ever."""
    with pytest.raises(RuntimeError, match="not permitted when stream is capturing"):
        CudaGraphs().record(device.wait_for_it)
    assert (device.stream, device.generator, device.pools_open) == ("main", "a copy", False)


def test_a_capture_that_is_ended_after_a_failure(device: Device) -> None:
    def read_index() -> None:
        raise KeyError("index")

    with pytest.raises(KeyError, match="index"):
        CudaGraphs().record(read_index)
    assert (device.stream, device.pools_open) == ("main", False)


def test_a_recording_is_repeated(device: Device) -> None:
    replay = CudaGraphs().record(lambda: None)
    replay()
    assert (device.calls, device.stream, device.generator) == (["replay"], "main", "generator")


def test_graphs_may_share_memory(device: Device) -> None:
    for graphs in (CudaGraphs(), CudaGraphs("shared")):
        graphs.record(lambda: None)
    assert device.pools == ["pool", "shared"]


def test_a_step_that_waits_goes_eagerly_and_ends_as_if_nothing_had_been_tried(
    device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    class Asks(Supervised):
        def forward(self, batch: Any) -> dict[str, torch.Tensor]:
            device.wait_for_it()
            return super().forward(batch)

    found = []
    for graphs in (None, CudaGraphs()):
        torch.manual_seed(5)
        made = Asks(Network(0.5), BCE(), "bce")
        state = assemble(made, optimizer="adamw", momentum=0.9, weight_decay=0.0, capturable=True)
        with caplog.at_level(logging.INFO, "lshfm"):
            found.append((trained(state, make_step(state, capture=graphs)), contents(state)))
    assert equal(*found)
    assert caplog.messages == ["the step is not captured, it goes eagerly: called a synchronizing CUDA operation"]
    assert next(batches(1)).images.shape[0] == 4
