"""Where a run takes room on disks, in words."""

import shutil
from collections.abc import Collection
from pathlib import Path


def line(checkpoints: int, folder: Path, stores: Collection[Path]) -> str:
    """What a run keeps: so many bytes of checkpoints in its folder, and stores of pixels, and what is free there."""
    free = shutil.disk_usage(folder).free
    text = f"on disk: up to {size(checkpoints)} of checkpoints in {folder} ({size(free)} free)"
    if not stores:
        return text
    pixels, places = sum(path.stat().st_size for path in stores), sorted({str(path.parent) for path in stores})
    return f"{text}, {size(pixels)} of pixels in {', '.join(places)}"


def size(num_bytes: float) -> str:
    """In MB, or in GB where it is that much."""
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"
