"""Time and peak memory of the hash functions' medians: chunk by chunk, against the whole matrix at once.

    python benchmarks/median_pass.py --num 65536 --width 2048 --rows 5011 --threads 1

Each way runs in a fresh process on the same seeded features and weights; its peak memory counts from after those are
made. The medians of the two are compared bit by bit. With --device cuda the products are taken there, and memory is
the GPU's.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lshfm.losses.lsh import draw_weights, hash_bias


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num", type=int, default=65536, help="hash functions")
    parser.add_argument("--width", type=int, default=2048, help="of the features")
    parser.add_argument("--rows", type=int, default=5011, help="images")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="where the features lie: cpu or cuda")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--medians", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    if args.way:
        print(json.dumps(measure(args)))
    else:
        compare(args)


def compare(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        files = {way: Path(folder) / f"{way}.pt" for way in WAYS}
        figures = {way: in_a_process(args, way, file) for way, file in files.items()}
        bit_equal = torch.equal(*(torch.load(file, weights_only=True) for file in files.values()))
    print(f"N={args.num} D={args.width} n={args.rows}, threads={args.threads}, torch {torch.__version__}")
    print(f"{platform.platform()}, {platform.processor() or platform.machine()}")
    print(f"{'way':<10}{'seconds':>10}{'peak MiB':>10}{'of it inputs':>14}")
    for way, figure in figures.items():
        print(f"{way:<10}{figure['seconds']:>10.1f}{figure['peak']:>10.0f}{figure['inputs']:>14.0f}")
    print(f"bit-equal: {'yes' if bit_equal else 'no'}")


def in_a_process(args: argparse.Namespace, way: str, medians: Path) -> dict[str, Any]:
    sizes = [f"--{name}={getattr(args, name)}" for name in ("num", "width", "rows", "threads", "device")]
    command = [sys.executable, __file__, *sizes, f"--way={way}", f"--medians={medians}"]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, Any] = json.loads(ended.stdout)
    return figures


def measure(args: argparse.Namespace) -> dict[str, float]:
    """Seconds of one way, and the process's peak memory before and after it in MiB."""
    weights = draw_weights(args.num, args.width, 0.02, seed=0)
    features = draw_weights(args.rows, args.width, 1.0, seed=1).abs_().to(args.device)  # pooled: not negative
    inputs = peak_memory(args.device)
    start = time.perf_counter()
    bias = WAYS[args.way](features, weights).cpu()
    figures = {"seconds": time.perf_counter() - start, "inputs": inputs, "peak": peak_memory(args.device)}
    torch.save(bias, args.medians)
    return figures


def peak_memory(device: str) -> float:
    """The most held so far in MiB: by torch on a GPU, else by this process (Linux counts KiB, macOS bytes)."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def whole(features: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return -(weights.to(features.device) @ features.T).median(dim=1).values


def chunked(features: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return hash_bias(features, weights, "median")


WAYS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {"whole": whole, "chunked": chunked}


if __name__ == "__main__":
    main()
