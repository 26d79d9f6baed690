"""The whole story on the embedded set: a teacher, its student alone, and the student mimicking the teacher.

`make demo` tells it once. `python benchmarks/demo.py --seeds 0 1 2` gives mean and standard deviation over seeds, each
with a teacher of its own. Runs that are finished are not run again.
"""

import argparse
import os
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lshfm.report.features import CAPTION, COLUMNS
from lshfm.runs.record import Results

TEACHER, STUDENT = "resnet20", "resnet8"
# One epoch aligns the projection; beta and the number of functions (8 a feature) suit so small a set.
MIMIC = ("loss=lshl2", "loss.beta=3", "loss.hash_num=512", "stage1.epochs=1")
PROGRAM = Path(sys.executable).with_name("lshfm")
BEFORE = f"""On 4000 small drawn images, with one CPU thread: a teacher ({TEACHER}), its student ({STUDENT}) alone, and
the student mimicking the teacher's features in two stages; then a table of the three. That takes about 5 minutes a
seed on a recent CPU core. What is called lshfm below is {PROGRAM}."""
AFTER = f"""
The student that mimics comes closer to its teacher's score than the student alone, and its features closer to the
teacher's directions (angle). The checkpoints are in {{folder}}. On images of your own:
  {PROGRAM} train dataset=manifest dataset.root=DIR
DIR/train.csv and DIR/test.csv have the columns path,labels."""

Row = tuple[float | None, ...]


def lshfm(*words: str) -> None:
    """Run a command as a user would, and show it."""
    print(f"\n$ lshfm {shlex.join(words)}", flush=True)
    environment = {"OMP_NUM_THREADS": "1"} | os.environ  # more threads than idle cores slow so small a network down
    ended = subprocess.run([PROGRAM, *words], env=environment, check=False)
    if ended.returncode:
        sys.exit(ended.returncode)


def story(seed: int, settings: Sequence[str]) -> dict[str, Row]:
    """Train, mimic and evaluate with one seed; the figures of each network."""
    common = (f"seed={seed}", *settings)
    lshfm("train", f"model={TEACHER}", f"name=demo_teacher_s{seed}", *common)
    lshfm("train", f"model={STUDENT}", f"name=demo_alone_s{seed}", *common)
    lshfm("mimic", f"teacher=demo_teacher_s{seed}", f"student={STUDENT}", f"name=demo_mimic_s{seed}", *MIMIC, *common)
    lshfm("eval", f"demo_alone_s{seed}", f"teacher=demo_teacher_s{seed}", f"name=demo_alone_s{seed}")
    runs = (f"eval/demo_alone_s{seed}", f"mimic/demo_mimic_s{seed}_stage1", f"mimic/demo_mimic_s{seed}_stage2")
    alone, aligned, mimicked = (Results.read(Path("outputs") / run / "results.json").report for run in runs)
    return {
        f"teacher {TEACHER}": (mimicked["mimicry"]["teacher_mAP"], 0.0, 1.0, 100.0, 100.0),
        f"student {STUDENT} alone": figures(alone),
        f"student {STUDENT} after stage 1": figures(aligned),
        f"student {STUDENT} mimicking": figures(mimicked),
    }


def figures(report: dict[str, Any]) -> Row:
    """What the table shows of a network."""
    mimicry = report["mimicry"]
    keys = ("angle", "relative_length", "hash_agreement", "hash_agreement_own_medians")
    return report.get("mAP"), *(mimicry[key] for key in keys)


def show(stories: Sequence[dict[str, Row]]) -> None:
    """The table, with standard deviations where there are several seeds."""
    table = Table(title=f"embedded set, {len(stories)} seed(s)", title_justify="left")
    table.add_column("network")
    for column in ("mAP", *COLUMNS):
        table.add_column(column, justify="right")
    for name, row in stories[0].items():
        table.add_row(name, *(summary([story[name][i] for story in stories]) for i in range(len(row))))
    Console(width=100).print(table)
    print(CAPTION)


def summary(values: Sequence[float | None]) -> str:
    """A figure, or mean and standard deviation over seeds."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    mean = f"{statistics.mean(known):.2f}"
    return mean if len(known) == 1 else f"{mean} ± {statistics.stdev(known):.2f}"


def main() -> None:
    """Tell the story for every seed asked for, in the current folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("settings", nargs="*", help="settings for every run, as epochs=2 gpus=[]; before --seeds")
    arguments = parser.parse_args()
    print(BEFORE)
    started = time.perf_counter()
    stories = [story(seed, arguments.settings) for seed in arguments.seeds]
    print()
    show(stories)
    print(f"{time.perf_counter() - started:.0f} s, {os.cpu_count()} CPU cores")
    print(AFTER.format(folder=Path("checkpoints").absolute()))


if __name__ == "__main__":
    main()
