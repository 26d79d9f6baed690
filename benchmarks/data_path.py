"""Images per second of the data path: Pillow for every image and epoch, against the store and whole batches.

    python benchmarks/data_path.py --data DIR --size 448 --json OUT

DIR holds a VOC2007 devkit. First --workers processes build the store, then rows are timed on one thread, by the
clock and by the processor time used ("core").
"""

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from PIL import Image, ImageEnhance, ImageOps
from torchvision.transforms import functional

from lshfm.datasets.augment import Augment
from lshfm.datasets.loader import StoredPixels, View
from lshfm.datasets.split import Images
from lshfm.datasets.store import open_store
from lshfm.datasets.store_file import Store
from lshfm.datasets.voc import VOC

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ENHANCERS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
AUGMENT = Augment()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with VOCdevkit")
    parser.add_argument("--split", default="trainval")
    parser.add_argument("--size", type=int, default=448)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--images", type=int, default=320, help="how many images each row is timed on")
    parser.add_argument("--workers", type=int, default=2, help="processes that build the store")
    parser.add_argument("--repeat", type=int, default=3, help="the best of so many is kept")
    parser.add_argument("--device", default="cpu", help="where batches are augmented")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    args = parser.parse_args()

    torch.set_num_threads(1)
    figures = measure(args)
    print(json.dumps(figures, indent=2))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    images = VOC(args.data).split(args.split).images
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        store = open_store(
            images, args.size, Path(folder), name="benchmark", workers=args.workers, report=print_progress
        )
        seconds = time.perf_counter() - start
        count = min(args.images, len(images))
        index = np.random.default_rng(0).permutation(len(images))[:count]
        batches = [torch.from_numpy(part) for part in np.array_split(index, -(-count // args.batch_size))]
        timed = paths(images, store, batches, args.size, torch.device(args.device))
        rates = {name: rate(path, count, args.repeat) for name, path in timed.items()}
    return {
        "store_build": {"seconds": round(seconds, 2), "workers": args.workers, "images": len(images)},
        "images_per_second": rates,
        "size": args.size,
        "batch_size": args.batch_size,
        "device": args.device,
        "machine": platform.processor() or platform.machine(),
        "versions": {"torch": torch.__version__, "pillow": PIL.__version__, "numpy": np.__version__},
    }


def print_progress(done: int, total: int) -> None:
    print(f"\rstore: {done}/{total}", end="\n" if done == total else "", file=sys.stderr, flush=True)


def paths(
    images: Images, store: Store, batches: list[torch.Tensor], size: int, device: torch.device
) -> dict[str, Callable[[], Iterator[Any]]]:
    """What is timed, each an iterator over all batches."""
    view = View(MEAN, STD, AUGMENT)
    index = [batch.numpy() for batch in batches]

    def published() -> Iterator[torch.Tensor]:
        """As published: every step on one image at a time."""
        for batch in batches:
            decoded = (Image.fromarray(images.pixels(int(i), size)) for i in batch)
            yield torch.stack([with_pillow(image, int(i)) for image, i in zip(decoded, batch, strict=True)])

    def store_and_pillow() -> Iterator[torch.Tensor]:
        for batch, pixels in zip(batches, StoredPixels(store).stream(index), strict=True):
            decoded = (Image.fromarray(p) for p in pixels)
            yield torch.stack([with_pillow(image, int(i)) for image, i in zip(decoded, batch, strict=True)])

    def store_and_batch() -> Iterator[torch.Tensor]:
        for batch, pixels in zip(batches, StoredPixels(store).stream(index), strict=True):
            yield view(torch.from_numpy(pixels).to(device), batch, seed=0, epoch=0)

    return {
        "decode, resize": lambda: (images.pixels(int(i), size) for batch in batches for i in batch),
        "decode, resize, flip, jitter, normalise with Pillow": published,
        "store, then flip, jitter, normalise with Pillow": store_and_pillow,
        "store, then flip, jitter, normalise on batches": store_and_batch,
        "store alone": lambda: StoredPixels(store).stream(index),
    }


def with_pillow(image: Image.Image, index: int) -> torch.Tensor:
    """The same view as the batched one's, one image at a time."""
    sample = np.array([index])
    if AUGMENT.flips(sample, seed=0, epoch=0)[0]:
        image = ImageOps.mirror(image)
    kinds, factors = AUGMENT.jitters(sample, seed=0, epoch=0)
    for kind, factor in zip(kinds[0], factors[0], strict=True):
        image = ENHANCERS[kind](image).enhance(factor)
    view: torch.Tensor = functional.normalize(functional.to_tensor(image), MEAN, STD, inplace=True)
    return view


def rate(path: Callable[[], Iterator[Any]], count: int, repeat: int) -> dict[str, float]:
    """Images per second by the clock and of a core, at the fastest of `repeat` passes over `count` images."""
    seconds = []
    for _ in range(repeat):
        clock, core = time.perf_counter(), time.process_time()
        for _ in path():
            pass
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append((time.perf_counter() - clock, time.process_time() - core))
    clock, core = (min(column) for column in zip(*seconds, strict=True))
    return {"clock": round(count / clock, 1), "core": round(count / core, 1)}


if __name__ == "__main__":
    main()
