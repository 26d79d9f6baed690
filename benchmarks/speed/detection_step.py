"""A training step of a detector from decoded pictures on, beside torchvision's, and which operators take its time."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from benchmarks.speed import machine
from benchmarks.speed.detection_reference import Target
from lshfm.datasets.box_loader import BoxLoader
from lshfm.datasets.boxes import BoxSplit
from lshfm.datasets.decode import decode_pictures
from lshfm.engine.assemble import assemble
from lshfm.engine.step import make_step
from lshfm.objectives.detection import Detect

KINDS = {  # parts of operators' names
    "nms": "nms", "roi_align": "RoIAlign", "conv": "convolutions", "addmm": "linear", "mm": "linear",
    "batch_norm": "norms, ReLU", "hardtanh": "norms, ReLU", "relu": "norms, ReLU", "addcmul": "norms, ReLU",
}  # fmt: skip


def of_the_tool(detector: nn.Module, split: BoxSplit, loader: BoxLoader, rows: Sequence[int]) -> Callable[[], object]:
    """The tool's step on some pictures."""
    network = detector.to(machine.device()).to(memory_format=torch.channels_last)
    state = assemble(Detect(network), optimizer="sgd", momentum=0.9, weight_decay=1e-4)
    state.begin_epoch()
    step, index = make_step(state), np.array(rows)
    pictures = decode_pictures(split.images, index)
    assert not isinstance(pictures, str)
    return lambda: step(loader._boxes(index, pictures, 0, 0.0), 1e-6)


def of_torchvision(detector: nn.Module, pixels: Sequence[Tensor], targets: Sequence[Target]) -> Callable[[], object]:
    """torchvision's step on some pictures, which come as floats; it reads its losses."""
    detector.train()
    learnt = [each for each in detector.parameters() if each.requires_grad]
    optimizer = torch.optim.SGD(learnt, lr=1e-6, momentum=0.9, weight_decay=1e-4)

    def step() -> None:
        losses = detector(*sent(pixels, targets))
        optimizer.zero_grad()
        total = torch.stack(list(losses.values())).sum()
        total.backward()
        optimizer.step()
        _ = [total.item(), *(loss.item() for loss in losses.values())]

    return step


def sent(pixels: Sequence[Tensor], targets: Sequence[Target]) -> tuple[list[Tensor], list[Target]]:
    """Pictures and targets on the device."""
    place = machine.device()
    return [each.to(place) for each in pixels], [{k: v.to(place) for k, v in own.items()} for own in targets]


def seconds_of_a_core(work: Callable[[], object]) -> float:
    """What a step takes of the processor on one thread, whatever else it does; on a GPU by the clock."""
    if machine.device().type == "cuda":
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        return time.perf_counter() - start
    with one_thread():
        start = time.process_time()
        work()
        return time.process_time() - start


@contextmanager
def one_thread() -> Iterator[None]:
    """Within the block, operators on a CPU take one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def shares(work: Callable[[], object]) -> dict[str, float]:
    """Percent of a step's time, on a GPU of its kernels', by kind of operator."""
    is_gpu = machine.device().type == "cuda"
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if is_gpu else [])]
    with one_thread(), profile(activities=kinds) as profiled:
        work()
    taken: dict[str, float] = defaultdict(float)
    for entry in profiled.key_averages():
        kind = next((kind for part, kind in KINDS.items() if part in entry.key), "all else")
        taken[kind] += entry.self_device_time_total if is_gpu else entry.self_cpu_time_total
    whole = max(sum(taken.values()), 1e-9)
    return {kind: round(100 * each / whole, 1) for kind, each in sorted(taken.items(), key=_by_time)}


def _by_time(entry: tuple[str, Any]) -> float:
    return -float(entry[1])
