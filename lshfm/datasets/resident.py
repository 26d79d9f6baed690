"""Stores, and pictures that are an array, in the device's memory: a batch is gathered there by its numbers."""

from collections.abc import Generator, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from lshfm.datasets.augment import send
from lshfm.datasets.cutting import Index
from lshfm.datasets.in_memory import ArrayPixels
from lshfm.datasets.loader import PixelSource, StoredPixels
from lshfm.datasets.split import Pixels
from lshfm.datasets.store import human
from lshfm.datasets.store_file import Store
from lshfm.errors import InputError, parameter

SHARE = 8  # cache=auto takes at most one in so many of a GPU's free bytes, for each split; the rest is training's
CHUNK = 64 * 2**20  # bytes that are copied at a time


@dataclass(frozen=True)
class ResidentPixels:
    """Pixels in a device's memory. store: that they were copied from; None for an array's."""

    store: Store | None
    pixels: Tensor  # uint8 (n, S, S, 3)

    def __len__(self) -> int:
        return len(self.pixels)

    def stream(self, batches: Iterable[Index]) -> Generator[Tensor, None, None]:
        """Uint8 (B, S, S, 3) on the device for each array of indices."""
        for index in batches:
            yield self.pixels.index_select(0, send(torch.from_numpy(index), self.pixels.device))


def resident(source: PixelSource, device: torch.device, cache: str) -> tuple[PixelSource, str]:
    """The source, in the device's memory where `cache` wants it there; and a sentence on that, "" for none.

    auto: on a GPU, if the store takes at most a SHARE-th of its free memory. device: in any case; on a CPU that is its
    memory. Raises InputError where it does not fit.
    """
    may = cache == "device" or (cache == "auto" and device.type == "cuda")
    if not may or not isinstance(source, StoredPixels | ArrayPixels):
        return source, ""
    store = source.store if isinstance(source, StoredPixels) else None
    pixels = source.array if isinstance(source, ArrayPixels) else source.store.pixels
    needed, free = pixels.nbytes, free_bytes(device)
    place = "memory" if device.type == "cpu" else f"the memory of {device}"
    sizes = f"{human(needed)} of {human(free)} that are free there"
    if cache == "device" and needed > free:
        key = parameter("cache")
        what = "the store does" if store else "the pictures do"
        other = f"{key}=on reads it from the disk" if store else f"{key}=auto leaves them where they are"
        raise InputError(f"{key}=device: {what} not fit into {place}: {sizes}. {other}")
    if cache == "auto" and needed > free // SHARE:
        return source, ""
    what = "The store lies" if store else "The pictures lie"
    return ResidentPixels(store, _copied(pixels, device)), f"{what} in {place}: {sizes}."


def _copied(pixels: Pixels, device: torch.device) -> Tensor:
    rows = max(1, CHUNK // max(pixels[:1].nbytes, 1))
    copy = torch.empty(pixels.shape, dtype=torch.uint8, device=device)
    for start in range(0, len(copy), rows):
        copy[start : start + rows] = torch.from_numpy(pixels[start : start + rows].copy())
    return copy


def free_bytes(device: torch.device) -> int:
    """Free bytes of a GPU, or of the machine's memory."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    with open("/proc/meminfo", encoding="ascii") as file:  # noqa: PTH123
        found = next(line for line in file if line.startswith("MemAvailable:"))
    return int(found.split()[1]) * 1024
