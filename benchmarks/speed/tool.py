"""The tool itself, run as a user runs it, and what it writes while it trains."""

import contextlib
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from benchmarks.speed.arms import Pair, build
from benchmarks.speed.results import ROOT
from lshfm.engine.lines import EpochLine, StepLine
from lshfm.runs.record import read_metrics

ENDLESS = 100_000  # epochs of a run that is ended once it has been timed: fast compiles for a long one alone


def environment() -> dict[str, str]:
    """That finds this checkout from any folder."""
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}


def words(pair: Pair, photos: Path, folder: Path) -> list[str]:
    """The command of a pair's step on the photos; the networks start from random weights."""
    data = ["dataset=manifest", f"dataset.root={photos}", f"dataset.size={pair.size}"]
    data += [f"dataset.cache_dir={photos.parent / 'stores'}"]
    train = [f"batch_size={pair.batch}", "eval_batch_size=64", "lr=0.001", "log_every=1000000", "name=run"]
    train += [f"eval_every={ENDLESS}"]
    if pair.teacher is None:
        return ["train", f"model={pair.student}", "model.weights=none", *data, *train]
    weights = folder / f"{pair.teacher}.pth"
    if not weights.is_file():
        torch.manual_seed(0)
        torch.save(build(pair.teacher).state_dict(), weights)
    command = ["mimic", f"stage={pair.stage}", f"teacher={pair.teacher}", f"teacher.path={weights}"]
    command += [f"student={pair.student}", "student.projection=true"]
    if pair.stage == 1:
        return [*command, "loss=l2", "student.weights=none", *data, *train]
    return [*command, "loss=lshl2", "student.init=none", "loss.hash_num=2048", "loss.bias=zero", *data, *train]


@contextmanager
def started(folder: Path, *command: str) -> Iterator["subprocess.Popen[bytes]"]:
    """`lshfm COMMAND...` while it runs; ended with the block."""
    with (folder / "said.txt").open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "lshfm", *command], cwd=folder, env=environment(), stdout=said, stderr=said
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(60)
            if process.poll() is None:
                process.kill()
                process.wait()


def rate(folder: Path, command: Sequence[str], *, epochs: int, limit: float) -> float:
    """Images a second in the epochs after the first, from the tool's own lines; the run is ended after `epochs`.

    Raises RuntimeError for a run that fails, or that has not got there within `limit` seconds.
    """
    begun = time.monotonic()
    with started(folder, *command) as process:
        while time.monotonic() - begun < limit:
            if sum(isinstance(line, EpochLine) for line in lines(folder)) >= epochs:
                break
            if process.poll() is not None and process.returncode != 0:
                raise RuntimeError(f"the tool failed: {_said(folder)}")
            if process.poll() is not None:
                break
            time.sleep(0.05)
    steps = [line for line in lines(folder) if isinstance(line, StepLine) and line.epoch > 1]
    rates = [line.images_per_second for line in steps if line.images_per_second is not None]
    if not rates:
        raise RuntimeError(f"no second epoch within {limit:g} s: {_said(folder)}")
    return statistics.median(rates)


def lines(folder: Path) -> list[object]:
    """What the run in a folder has written of its steps and epochs."""
    found = list(folder.glob("outputs/*/*/metrics.jsonl"))
    return list(read_metrics(found[0])) if found else []


def goes_without(folder: Path) -> list[str]:
    """What a fast run has said that it does not do."""
    said = (folder / "said.txt").read_text(errors="replace").splitlines()
    return [line for line in said if re.search(r"eagerly|uncompiled|nothing is compiled|operation by operation", line)]


def _said(folder: Path) -> str:
    return (folder / "said.txt").read_text(errors="replace")[-800:]


def seconds_to_end(folder: Path, *command: str) -> float:
    """Seconds until a command has ended, however it ends."""
    start = time.perf_counter()
    with started(folder, *command) as process:
        process.wait(120)
    return time.perf_counter() - start


def seconds_to_first_step(folder: Path, command: Sequence[str], *, limit: float = 600.0) -> tuple[float, int]:
    """Seconds from the command until the tool has written a line on a step, and its memory in MiB then."""
    start = time.perf_counter()
    with started(folder, *command) as process:
        while time.perf_counter() - start < limit and process.poll() is None:
            if any(isinstance(line, StepLine) for line in lines(folder)):
                return time.perf_counter() - start, memory(process.pid)
            time.sleep(0.02)
    raise RuntimeError(f"no step within {limit:g} s: {_said(folder)}")


def ranks_of(pid: int) -> list[int]:
    """The processes of a command that train: those of its ranks, or the command's own."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(child) for task in tasks for child in task.read_text().split()]
    return [child for child in children if b"worker.py" in _command_of(child)] or [pid]


def _command_of(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def memory(pid: int, what: str = "VmRSS") -> int:
    """MiB that a process holds (VmRSS), or has held at most (VmHWM)."""
    with contextlib.suppress(OSError):  # it has ended
        found = re.search(rf"{what}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        return int(found[1]) // 1024 if found else 0
    return 0
