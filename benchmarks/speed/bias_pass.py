"""A process that takes the medians of hash functions as a run does, and prints seconds and peak memory as JSON.

    python -m benchmarks.speed.bias_pass ROWS WIDTH NUM TIMED

Features come in batches from a network that costs nothing; the bias is taken of TIMED functions, and NUM are drawn.
"""

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from lshfm.engine.evaluate import predict
from lshfm.losses.lsh import draw_weights, drawn_bias
from lshfm.ranks.device import prepare


class Cheap(nn.Module):
    """A feature of random numbers, whatever the image."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width, self.generator = width, torch.Generator().manual_seed(1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        feature = torch.randn(len(images), self.width, generator=self.generator).abs_().to(images.device)
        return feature, images.new_zeros(len(images), 80)


def main() -> None:
    rows, width, num, timed = map(int, sys.argv[1:])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    prepare(device, deterministic=False)
    at_start = peak()
    batches = (
        SimpleNamespace(index=index, images=torch.zeros(len(index), 1, device=device), labels=torch.zeros(len(index)))
        for index in torch.arange(rows).split(64)
    )
    outputs = predict(Cheap(width), batches, features=True)
    assert outputs is not None
    features = torch.from_numpy(outputs.features).to(device)
    start = time.perf_counter()
    drawn_bias(features, timed, 0.02, 0)
    seconds = time.perf_counter() - start
    del features, outputs
    draw_weights(num, width, 0.02, 0)
    figures = {"rows": rows, "width": width, "functions": num, "timed_functions": timed, "seconds": round(seconds, 2),
               "peak_host_MiB": peak(), "of_it_at_start_MiB": at_start}  # fmt: skip
    if device.type == "cuda":
        figures["peak_gpu_MiB"] = torch.cuda.max_memory_allocated() // 2**20
    print(json.dumps(figures))


def peak() -> int:
    """The most that this process has held since `forget_peak`, in MiB; getrusage would count what its parent held."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) // 2**10


def forget_peak() -> None:
    """What this process holds now is the most it has held. Linux's proc(5), clear_refs."""
    Path("/proc/self/clear_refs").write_text("5")


if __name__ == "__main__":
    main()
