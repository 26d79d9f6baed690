"""How much room there is on disks."""

import shutil
from pathlib import Path


def free_bytes(folder: Path) -> int:
    """Free bytes of the disk that `folder` lies on, or will once it is made."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free
