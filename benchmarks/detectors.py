"""A small comparison of detectors on VOC2007: a teacher, its student alone, and the student with L2, LSH and LSHL2.

`python -m benchmarks.detectors DIR`, where DIR holds VOCdevkit/VOC2007, writes into the current folder. With one CPU
thread it takes some 15 minutes a seed. Runs that are finished are not run again. With several seeds each has a
teacher of its own, and the table gives mean and standard deviation.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.demo import Row, lshfm, summary
from lshfm.runs.record import Results

NETWORK = "fasterrcnn_mobilenet_v2_fpn"
DATA = ("dataset=voc07", "dataset.root=voc", "dataset.size=128", "dataset.train_sizes=[112,128]")
COMMON = ("batch_size=4", "lr=0.01", "clip_grad=10", "eval_every=100")
TEACHER = ("fpn_channels=64", "proposals=64")
STUDENT = ("fpn_channels=16", "proposals=64")
MIMICKING = ("l2", "lsh", "lshl2")
SCORES = ("coco_ap50", "voc2007", "voc_area", "coco_ap")
MIMICRY = ("angle", "hash_agreement")


def shortened(devkit: Path, images: int, tested: int) -> None:
    """A devkit in the folder voc with the first images of `trainval` and of `test`, and links to their files."""
    theirs, ours = (folder / "VOCdevkit/VOC2007" for folder in (devkit, Path("voc")))
    (ours / "ImageSets/Main").mkdir(parents=True, exist_ok=True)
    for split, number in (("trainval", images), ("test", tested)):
        names = (theirs / f"ImageSets/Main/{split}.txt").read_text().split()[:number]
        (ours / f"ImageSets/Main/{split}.txt").write_text("\n".join(names))
    for part in ("JPEGImages", "Annotations"):
        if not (ours / part).exists():
            (ours / part).symlink_to((theirs / part).resolve())


def story(seed: int, weights: str, settings: Sequence[str]) -> dict[str, Row]:
    """Train and mimic with one seed; the figures of each network."""
    common = (*DATA, *COMMON, f"seed={seed}", *settings)
    teacher = f"voc_teacher_s{seed}"

    def network(role: str, own: Sequence[str]) -> tuple[str, ...]:
        return (f"{role}={NETWORK}", *(f"{role}.{each}" for each in (f"weights={weights}", *own)))

    lshfm("train", *network("model", TEACHER), "epochs=5", "schedule.steps=[4]", f"name={teacher}", *common)
    lshfm("train", *network("model", STUDENT), "epochs=2", f"name=voc_alone_s{seed}", *common)
    found = {"teacher": figures(f"train/{teacher}"), "student alone": figures(f"train/voc_alone_s{seed}")}
    for loss in MIMICKING:
        name, mimic = f"voc_{loss}_s{seed}", (f"teacher={teacher}", f"loss={loss}")
        functions = () if loss == "l2" else ("loss.hash_num=1024",)
        lshfm("mimic", *network("student", STUDENT), *mimic, *functions, "epochs=2", f"name={name}", *common)
        found[f"with {loss}"] = figures(f"mimic/{name}_stage2")
    return found


def figures(run: str) -> Row:
    """What the table shows of a network."""
    report = Results.read(Path("outputs", run, "results.json")).report
    mimicry = report.get("mimicry", {})
    return (*(report[key] for key in SCORES), *(mimicry.get(key) for key in MIMICRY))


def show(stories: Sequence[dict[str, Row]]) -> None:
    """The table, with standard deviations where there are several seeds."""
    table = Table(title=f"VOC2007, {len(stories)} seed(s)", title_justify="left")
    for column in ("network", *SCORES, *MIMICRY):
        table.add_column(column)
    for name in stories[0]:
        columns = zip(*(story[name] for story in stories), strict=True)
        table.add_row(name, *map(summary, columns))
    Console(width=110).print(table)


def main() -> None:
    """Tell the story for every seed asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("devkit", type=Path, metavar="DIR")
    parser.add_argument("--images", type=int, default=600, help="to learn from; all students take two epochs of them")
    parser.add_argument("--tested", type=int, default=200)
    parser.add_argument("--weights", default="imagenet", help="of the backbones: imagenet, none, or a file")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("settings", nargs="*", help="settings for every run, as gpus=[0]; before --seeds")
    asked = parser.parse_intermixed_args()
    shortened(asked.devkit, asked.images, asked.tested)
    show([story(seed, asked.weights, asked.settings) for seed in asked.seeds])


if __name__ == "__main__":
    main()
