"""Opening folders of classes: seconds of a first and of a second time, and the peak memory of a process that does it.

`python benchmarks/folder_list.py` makes 200,000 empty files in 1,000 folders, in a temporary folder. ImageNet has
1,281,167: `--images 1281167` makes as many. The first time follows the making of the files, so that the disk's cache is
warm; a network disk is slower.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lshfm.datasets.folders import ImageFolder


def make(root: Path, images: int, classes: int) -> None:
    """Empty files, dealt out over the folders."""
    for number in range(classes):
        folder = root / "train" / f"n{number:08d}"
        folder.mkdir(parents=True)
        for image in range(number, images, classes):
            (folder / f"{folder.name}_{image}.JPEG").touch()


def look(root: Path) -> dict[str, float]:
    """Seconds and peak memory (MiB) of opening the split and telling it from others, in this process."""
    begun = time.perf_counter()
    split = ImageFolder(root, lists=root / "lists").split("train")
    opened = time.perf_counter() - begun
    split.fingerprint()
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"images": len(split), "opened": opened, "with fingerprint": seconds, "peak MiB": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--look", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.look:
        print(json.dumps(look(given.look)))
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make(root, given.images, given.classes)
        for time_ in ("first", "second"):
            command = [sys.executable, __file__, "--look", str(root)]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            print(f"{time_} time: " + ", ".join(f"{name} {value:.2f}" for name, value in found.items()))


if __name__ == "__main__":
    main()
