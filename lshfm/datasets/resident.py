"""Stores that lie in the device's memory, so that a batch is gathered there by its numbers."""

from collections.abc import Generator, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from lshfm.datasets.augment import send
from lshfm.datasets.loader import Index, PixelSource, StoredPixels
from lshfm.datasets.store import human
from lshfm.datasets.store_file import Store
from lshfm.errors import InputError, parameter

SHARE = 8  # cache=auto takes at most one in so many of a GPU's free bytes, for each split; the rest is training's
CHUNK = 64 * 2**20  # bytes that are copied at a time


@dataclass(frozen=True)
class ResidentPixels:
    """The pixels of a store in a device's memory."""

    store: Store
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
    if not may or not isinstance(source, StoredPixels):
        return source, ""
    needed, free = source.store.pixels.nbytes, free_bytes(device)
    place = "memory" if device.type == "cpu" else f"the memory of {device}"
    sizes = f"{human(needed)} of {human(free)} that are free there"
    if cache == "device" and needed > free:
        key = parameter("cache")
        raise InputError(f"{key}=device: the store does not fit into {place}: {sizes}. {key}=on reads it from the disk")
    if cache == "auto" and needed > free // SHARE:
        return source, ""
    return ResidentPixels(source.store, _copied(source.store, device)), f"The store lies in {place}: {sizes}."


def _copied(store: Store, device: torch.device) -> Tensor:
    rows = max(1, CHUNK // max(store.pixels[:1].nbytes, 1))
    copy = torch.empty(store.pixels.shape, dtype=torch.uint8, device=device)
    for start in range(0, len(copy), rows):
        copy[start : start + rows] = torch.from_numpy(store.pixels[start : start + rows].copy())
    return copy


def free_bytes(device: torch.device) -> int:
    """Free bytes of a GPU, or of the machine's memory."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    with open("/proc/meminfo", encoding="ascii") as file:  # noqa: PTH123
        found = next(line for line in file if line.startswith("MemAvailable:"))
    return int(found.split()[1]) * 1024
