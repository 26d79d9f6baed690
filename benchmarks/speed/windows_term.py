"""A process that computes RetinaNet's LSH term and its gradient, and prints seconds, memory and arithmetic as JSON.

    python -m benchmarks.speed.windows_term IMAGES FUNCTIONS CHANNELS PRODUCTS [SIZE]

Maps of pictures of 800 x 1088 pixels on five levels, or of SIZE x SIZE. PRODUCTS: fp32, bf16, or compiled for bf16
with a compiled comparison. The first pass does not count.
"""

import json
import sys
import time

import torch

from benchmarks.speed.bias_pass import forget_peak, peak
from benchmarks.speed.machine import device
from benchmarks.speed.timing import synchronise
from lshfm.losses.lsh import LSH, HashFunctions, draw_weights
from lshfm.losses.windows import WindowLSH, agreement, compiled_if_it_works

STRIDES = (8, 16, 32, 64, 128)


def shapes(height: int, width: int) -> list[tuple[int, int]]:
    """Of the five levels' maps."""
    return [(-(-height // stride), -(-width // stride)) for stride in STRIDES]


def operations(images: int, functions: int, channels: int, levels: list[tuple[int, int]]) -> float:
    """Of the three convolutions: of the teacher's maps, of the student's, and back."""
    return 3 * 2.0 * images * sum(h * w for h, w in levels) * 9 * channels * functions


def main() -> None:
    images, functions, channels = map(int, sys.argv[1:4])
    levels = shapes(*([int(sys.argv[5])] * 2 if len(sys.argv) > 5 else (800, 1088)))
    torch.manual_seed(0)
    maps_s, maps_t = ([torch.randn(images, channels, *each).relu_().to(device()) for each in levels] for _ in range(2))
    kept = [torch.ones(images, *each, dtype=torch.bool, device=device()) for each in levels]
    drawn = draw_weights(functions, 9 * channels, 0.02, 0)
    term = WindowLSH(LSH(HashFunctions(drawn, torch.zeros(functions), 0.02, 0, "zero"))).to(device())
    if sys.argv[4] != "fp32":
        term.products = torch.bfloat16
    if sys.argv[4] == "compiled":
        term.compare = compiled_if_it_works(term.compare, maps_s[0], torch.bfloat16)
    for each in maps_s:
        each.requires_grad_()

    def work() -> None:
        for each in maps_s:
            each.grad = None
        term(maps_s, maps_t, kept).backward()

    forget_peak()
    before = _taken()
    if device().type == "cuda":
        work()
        torch.cuda.reset_peak_memory_stats()
    synchronise()
    start = time.perf_counter()
    work()
    synchronise()
    seconds, taken = time.perf_counter() - start, _taken() - before
    share = agreement(maps_t, term.loss.weights, term.loss.bias, torch.bfloat16)  # takes as much memory
    print(json.dumps({
        "images": images, "functions": functions, "channels": channels, "seconds": seconds,
        "operations": operations(images, functions, channels, levels), "MiB": taken,
        "hash_agreement_bf16": round(100 * share, 3),
    }))  # fmt: skip


def _taken() -> int:
    """The most that this process, or the GPU for it, has held, in MiB."""
    return torch.cuda.max_memory_allocated() // 2**20 if device().type == "cuda" else peak()


if __name__ == "__main__":
    main()
