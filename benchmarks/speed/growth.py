"""Start-up, and how cost grows: with the number of images, and over epochs."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.speed import tool
from benchmarks.speed.photos import photo
from benchmarks.speed.timing import rounded
from lshfm.engine.lines import EpochLine, StepLine

SMALL = ("model=resnet8", "dataset.size=32", "gpus=[]", "eval_batch_size=64", "name=run")


def startup(folder: Path, short: bool) -> dict[str, Any]:
    """Seconds until help is shown, until a missing checkpoint is refused, and until the first step is done."""
    shapes = ["train", "model=resnet20", "log_every=1", "dataset.num_train=256", "dataset.num_eval=64", "name=run",
              f"dataset.cache_dir={folder / 'stores'}"]  # fmt: skip
    ways: dict[str, Callable[[Path], float]] = {
        "help": lambda place: tool.seconds_to_end(place, "train", "--help"),
        "a missing checkpoint": lambda place: tool.seconds_to_end(place, "eval", "checkpoint=nowhere.ckpt"),
        "first step, embedded set": lambda place: tool.seconds_to_first_step(place, shapes)[0],
    }
    found = {}
    for name, way in ways.items():
        times = []
        for _ in range(1 if short else 3):
            with tempfile.TemporaryDirectory(dir=folder) as place:
                times.append(way(Path(place)))
        found[name] = rounded(statistics.median(times), 3)
    return found


def sizes(*, short: bool) -> list[int]:
    """Numbers of images."""
    return [40, 80] if short else [1_000, 10_000, 100_000]


def pictures(folder: Path, num: int) -> Path:
    """So many small pictures: hard links to a few, each in a file of its own name."""
    few, many = few_small(folder), folder / f"small{num}"
    if not (many / "done").is_file():
        (many / "images").mkdir(parents=True, exist_ok=True)
        for number in range(num):
            path = many / f"images/{number:06d}.jpg"
            if not path.exists():
                os.link(few[number % len(few)], path)
        rows = "".join(f"images/{number:06d}.jpg,class{number % 20:02d}\n" for number in range(num))
        (many / "train.csv").write_text("path,labels\n" + rows)
        (many / "test.csv").write_text("path,labels\n" + "".join(rows.splitlines(keepends=True)[:32]))
        (many / "classes.txt").write_text("".join(f"class{number:02d}\n" for number in range(20)))
        (many / "done").touch()
    return many


def few_small(folder: Path) -> list[Path]:
    """16 pictures that are decoded in a moment."""
    place = folder / "few"
    paths = [place / f"{number:02d}.jpg" for number in range(16)]
    place.mkdir(exist_ok=True)
    for number, path in enumerate(paths):
        if not path.exists():
            photo(number, 64, 48).save(path)
    return paths


def scaling(num: int) -> Callable[[Any], dict[str, Any]]:
    """Of a data set of so many images: seconds of a first and a second start, memory, images a second."""

    def measure(context: Any) -> dict[str, Any]:
        root = pictures(context.folder, num)
        command = ["train", "dataset=manifest", f"dataset.root={root}", *SMALL, "batch_size=16", "log_every=4"]
        command += ["model.weights=none", f"dataset.cache_dir={context.folder / 'stores'}", "dataset.cache=on"]
        found: dict[str, Any] = {"images": num}
        for start in ("first start", "second start"):
            with tempfile.TemporaryDirectory(dir=context.folder) as folder:
                seconds, mebibytes = tool.seconds_to_first_step(Path(folder), command)
            found[start] = rounded(seconds, 3)
            found["memory_MiB"] = mebibytes
        with tempfile.TemporaryDirectory(dir=context.folder) as folder:
            found["images_per_second"] = _rate(Path(folder), command, 2 if context.short else 12)
        return found

    return measure


def _rate(folder: Path, command: list[str], lines: int) -> float:
    """The median over so many lines of the log after the first."""
    begun = time.monotonic()
    with tool.started(folder, *command, "epochs=1000") as process:
        while process.poll() is None and time.monotonic() - begun < 150:
            found = [line for line in tool.lines(folder) if isinstance(line, StepLine)]
            if len(found) > lines:
                break
            time.sleep(0.02)
    rates = [line.images_per_second for line in found[1:] if line.images_per_second]
    return rounded(statistics.median(rates))


def over_epochs(folder: Path, ranks: int, *, short: bool) -> dict[str, Any]:
    """Host memory of the largest rank in MiB at the ends of epochs, from the second on; on the CPU."""
    epochs, seen = 4 if short else 20, dict[int, int]()
    command = ["train", *SMALL, "dataset.num_train=256", "dataset.num_eval=64", f"epochs={epochs}", "batch_size=32",
               f"dataset.cache_dir={folder / 'stores'}", f"ranks={ranks}"]  # fmt: skip
    with tempfile.TemporaryDirectory(dir=folder) as place, tool.started(Path(place), *command) as process:
        while process.poll() is None:
            done = [line.epoch for line in tool.lines(Path(place)) if isinstance(line, EpochLine)]
            if done and done[-1] not in seen:
                seen[done[-1]] = max(tool.memory(pid) for pid in tool.ranks_of(process.pid))
            time.sleep(0.02)
    held = [mebibytes for epoch, mebibytes in sorted(seen.items()) if epoch > 1 and mebibytes]
    found = {"from": held[0], "to": held[-1], "most": max(held)} if held else {}
    return {"ranks": ranks, "epochs": epochs, **found}
