"""The data path, the hash functions' bias and the evaluation, each alone."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.speed.arms import build
from benchmarks.speed.machine import device
from benchmarks.speed.published import MEAN, STD, Pictures
from benchmarks.speed.timing import rounded, seconds_of, synchronise
from benchmarks.speed.tool import environment
from lshfm.datasets.augment import Augment
from lshfm.datasets.fused import FusedView
from lshfm.datasets.loader import Loader, PixelSource, StoredPixels, View
from lshfm.datasets.manifest import Manifest
from lshfm.datasets.resident import resident
from lshfm.datasets.split import Split
from lshfm.datasets.store import open_store
from lshfm.mimicking.measure import ComparedEvaluator
from lshfm.objectives.teacher import Teacher
from lshfm.tasks.multilabel import MultiLabel


def opened(photos: Path, folder: Path, size: int) -> tuple[Split, StoredPixels]:
    """The training split of the photos, and its store."""
    split = Manifest(photos).split("train")
    store = open_store(split.images, size, folder / "stores", name="bench", workers=0, report=lambda *_: None)
    return split, StoredPixels(store)


def loader(photos: Path, folder: Path, size: int, short: bool) -> dict[str, Any]:
    """Images a second of each way to a network's input, by the clock and a core, on one thread of the host."""
    split, stored = opened(photos, folder, size)
    count = 16 if short else min(128, len(split))
    order = np.random.default_rng(0).permutation(len(split))[:count]
    batches = [part for part in np.array_split(order, -(-count // 16)) if len(part)]
    pictures, view, place = Pictures(photos, size), FusedView(MEAN, STD, Augment()), device()
    on_device, _ = resident(stored, place, "device")

    def augmented(source: PixelSource) -> Iterator[Any]:
        for index, pixels in zip(batches, source.stream(batches), strict=True):
            yield view(torch.as_tensor(pixels).to(place), torch.from_numpy(index), seed=0, epoch=0)

    ways: dict[str, Callable[[], Iterator[Any]]] = {
        "Pillow: decode, resize, flip, jitter, normalise": lambda: (pictures[int(n)] for n in order),
        "decode and resize": lambda: (split.images.pixels(int(n), size) for n in order),
        "store on the disk": lambda: iter(stored.stream(batches)),
        "store, augmented on the device": lambda: augmented(stored),
        "store on the device": lambda: iter(on_device.stream(batches)),
        "store on the device, augmented there": lambda: augmented(on_device),
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return {name: _rate(way, count, 2 if short else 5) for name, way in ways.items()}
    finally:
        torch.set_num_threads(threads)


def _rate(way: Callable[[], Iterator[Any]], count: int, repeats: int) -> dict[str, float]:
    clocks, cores = [], []
    for _ in range(repeats + 1):
        synchronise()
        clock, core = time.perf_counter(), time.process_time()
        for _ in way():
            pass
        synchronise()
        clocks.append(time.perf_counter() - clock)
        cores.append(max(time.process_time() - core, 1e-9))
    return {"images_per_second": rounded(count / statistics.median(clocks[1:])),
            "per_core": rounded(count / statistics.median(cores[1:]))}  # fmt: skip


def augmentation(size: int, short: bool) -> dict[str, Any]:
    """Milliseconds for 64 images on the device: flip, jitter and normalisation."""
    batch = torch.randint(0, 256, (8 if short else 64, size, size, 3), dtype=torch.uint8, device=device())
    index = torch.arange(len(batch))
    found: dict[str, Any] = {"images": len(batch), "size": size}
    for name, kind in (("operation by operation", View), ("fused", FusedView)):
        view = kind(MEAN, STD, Augment())
        if name == "fused" and device().type != "cuda":
            continue
        times = [seconds_of(lambda: view(batch, index, seed=0, epoch=0)) for _ in range(3 if short else 9)]  # noqa: B023
        is_as_named = view.is_fused if isinstance(view, FusedView) else True
        found[name] = rounded(1000 * statistics.median(times[1:])) if is_as_named else "its kernels are not used"
    return found


def bias(short: bool) -> dict[str, Any]:
    """Seconds and peak memory of the medians of hash functions over a data set's features; in a process of its own."""
    is_gpu = torch.cuda.is_available()
    rows, width, num = (501, 64, 512) if short else (82081, 2048, 65536)
    timed = num if is_gpu or short else 1024  # of the functions; memory is of all
    command = [sys.executable, "-m", "benchmarks.speed.bias_pass", *map(str, (rows, width, num, timed))]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def evaluation(photos: Path, folder: Path, size: int) -> dict[str, Any]:
    """Images a second of an evaluation, without and with the measures beside a teacher."""
    split, stored = opened(photos, folder, size)
    place, student, teacher = device(), build("resnet8" if size < 64 else "resnet18"), build("resnet14")
    if size >= 64:
        teacher = build("resnet34")
    loader = Loader(
        stored, split.labels, batch_size=64, device=place, view=View(MEAN, STD), shuffle=False, drop_last=False
    )
    student.to(place), teacher.to(place)
    alone = MultiLabel().evaluator(loader, split, "voc2010", "fp32")
    beside = ComparedEvaluator(MultiLabel(), loader, split, "voc2010", Teacher(teacher), "teacher", labels=True)
    first = seconds_of(beside.prepare)
    plain, compared = (
        statistics.median(seconds_of(lambda: evaluate(student)) for _ in range(3))  # noqa: B023
        for evaluate in (alone, beside)
    )
    return {"images": len(split), "alone": rounded(len(split) / plain), "with measures": rounded(len(split) / compared),
            "the teacher's own, once": rounded(len(split) / first)}  # fmt: skip
