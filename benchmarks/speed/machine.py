"""What the machine can do: names and versions, copy bandwidth, dense products, host to device, gathering rows."""

import os
import platform
import re
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.speed.timing import rounded, seconds_of
from lshfm.ranks.device import describe_hardware


def device() -> torch.device:
    """The GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def tried_algorithms() -> Iterator[None]:
    """Within the block cuDNN takes what is fastest of what it tries, as the tool has it for images of one shape."""
    before, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def workers() -> int:
    """Of the published loader: 8, where there are so many cores."""
    return min(8, max(cores(), 1))


def processor() -> str:
    """The CPU's name."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.is_file() else None
    return found[1].strip() if found else platform.processor() or platform.machine()


def title() -> str:
    """A name of the machine for a file: its GPU, or its CPU and cores."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{processor()} {cores()} cores"
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower()


def named() -> dict[str, Any]:
    """Hardware and versions, and how busy the machine was."""
    described = describe_hardware(device(), "fp32")
    return described | {"processor": processor(), "cores": cores(), "threads": torch.get_num_threads(),
                        "load": [rounded(each, 2) for each in os.getloadavg()]}  # fmt: skip


def limits(*, short: bool) -> dict[str, float]:
    """Bytes and operations a second, medians."""
    size = 2**22 if short or device().type == "cpu" else 2**28
    side = 512 if short or device().type == "cpu" else 8192
    found = {"copy_bytes": copy_bandwidth(4 * size), "gather_bytes": gather_bandwidth(short=short)}
    for name, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        found[f"{name}_flops"] = dense_rate(kind, side)
    if device().type == "cuda":
        found["host_to_device_bytes"] = host_to_device(4 * size)
    return {name: rounded(value) for name, value in found.items()}


def _median(work: Any, times: int = 7) -> float:
    work()
    return statistics.median(seconds_of(work, 3) for _ in range(times))


def copy_bandwidth(size: int) -> float:
    """Bytes a second that a copy reads and writes together."""
    source = torch.zeros(size // 4, device=device())
    target = torch.empty_like(source)
    return 2 * size / _median(lambda: target.copy_(source))


def dense_rate(kind: torch.dtype, side: int) -> float:
    """Operations a second of a product of square matrices; of fp32 on a GPU with TF32, as convolutions have it."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    a, b = (torch.randn(side, side, device=device(), dtype=kind) for _ in range(2))
    try:
        return 2 * side**3 / _median(lambda: a @ b)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def host_to_device(size: int) -> float:
    """Bytes a second from pinned memory."""
    source = torch.zeros(size // 4, pin_memory=True)
    target = torch.empty(size // 4, device=device())
    return size / _median(lambda: target.copy_(source, non_blocking=True))


def gather_bandwidth(*, short: bool) -> float:
    """Bytes a second of pictures picked out of an array on the host, on one thread."""
    pictures = np.zeros((64 if short else 512, 224, 224, 3), np.uint8)
    index = np.random.default_rng(0).permutation(len(pictures))[:64]
    return pictures[index].nbytes / _median(lambda: pictures.take(index, 0))
