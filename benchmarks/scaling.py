"""Images a second of one rank and of several, on CPU cores or GPUs, every rank with the same share of a batch.

`python benchmarks/scaling.py` takes the embedded set at 64 px and a ResNet-20, one thread a rank. More ranks than cores
or GPUs scale no further. On GPUs: `--gpus`, with settings for a real data set behind it.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from lshfm.engine.lines import StepLine
from lshfm.runs.record import read_metrics

SETTINGS = ("model=resnet20", "dataset.size=64", "dataset.num_train=1024", "dataset.num_eval=64", "epochs=3")


def measure(ranks: int, share: int, settings: list[str], *, on_gpus: bool) -> dict[str, float]:
    """The fastest epoch's images a second of all ranks, and the seconds the first waited for the last in it."""
    words = [f"gpus={ranks}"] if on_gpus else ["gpus=[]", f"ranks={ranks}"]
    words += [f"batch_size={ranks * share}", "log_every=1000000", "name=run", *settings]
    environment = os.environ | ({} if on_gpus else {"OMP_NUM_THREADS": "1"})
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "lshfm", "train", *words]
        subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
        lines = read_metrics(Path(folder) / "outputs/train/run/metrics.jsonl")
    steps = [line for line in lines if isinstance(line, StepLine) and line.images_per_second is not None]
    best = max(steps, key=lambda line: line.images_per_second or 0.0)
    return {
        "images_per_second": best.images_per_second or 0.0,
        "waiting": best.waiting.seconds if best.waiting else 0.0,
    }


def main() -> None:
    """Measure each number of ranks and print a line for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--share", type=int, default=32, help="images a rank and step")
    parser.add_argument("--gpus", action="store_true")
    parser.add_argument("settings", nargs="*", help="settings of lshfm train in place of the embedded set's")
    arguments = parser.parse_args()
    settings = arguments.settings or list(SETTINGS)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores; {' '.join(settings)}")
    first = None
    for ranks in arguments.ranks:
        found = measure(ranks, arguments.share, settings, on_gpus=arguments.gpus)
        first = first or found["images_per_second"] / ranks
        rate = found["images_per_second"]
        print(f"{ranks} ranks: {rate:.0f} images/s, {rate / first:.2f} x, waiting {found['waiting']:.2f} s", flush=True)


if __name__ == "__main__":
    main()
