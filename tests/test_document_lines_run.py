"""The command lines of the pages run: all but those that name data, files and machines which are not here.

On each page in their order, in a folder of its own, with the embedded set or 40 drawn pictures for data, few images and
one epoch. The others are composed alone (tests/test_documents.py).
"""

import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from lshfm.datasets.shapes import Shapes
from tests.cli.conftest import here
from tests.documents import BLOCKS, ROOT, Block

pytestmark = pytest.mark.slow
CPU = ("gpus=[]", "workers=0")
SMALL = ("dataset.num_train=64", "dataset.num_eval=32")  # of the embedded set
OWN = ("dataset.size=32",)  # of DIR
ABSENT = {
    "~/": "VOC, COCO, CIFAR, detection",
    "/data/": "the same",
    "experiment=": "the same",
    "dataset=coco": "exports of other programs",
    "dataset=voc": "the same",
    "dataset=cifar": "a reduced CIFAR that is not on the page",
    "dataset=imagefolder": "imagenette",
    "...": "a line that goes on from another",
    "myconf": "a folder that the page only names; examples/own is run by tests/test_own_parts.py",
    "examples/own": "the same",
    "ranks=2": "processes: tests/cli/test_ranks.py",
    "hydra/launcher": "SLURM: tests/cli/test_slurm.py",
    "srun ": "the same",
    "torchrun ": "several machines: tests/cli/test_distributed.py",
    "sweep=optuna": "40 trials: tests/sweeps",
    "sweep=losses": "15 jobs: tests/sweeps",
    "seed=0,1,2": "nine jobs: tests/sweeps",
    "best.ckpt": "a run that chose its best epoch: tests/cli/test_whole_runs.py",
    "last.ckpt": "an unfinished run: tests/cli/test_run_states.py",
    "teacher=resnet34": "a checkpoint of another page",
    "predict detector": "a detector: tests/cli/test_detection_use.py",
    "street.jpg": "the same",
    "coco_ids": "the same",
    "devkit=true": "the same",
    "format=timm": "a network that timm has: tests/shipping/test_layouts.py",
    "outputs/sweeps/night": "a sweep: tests/cli/test_report.py",
}
DRAWN = 40
SMALLER = {
    "model=resnet34": "model=resnet20", "student=resnet18": "student=resnet8",
    "model.weights=imagenet": "model.weights=none", "student.weights=imagenet": "student.weights=none",
}  # fmt: skip


def lines_of(block: Block) -> Iterator[str]:
    """The command lines that run here."""
    for line in block.commands() if block.is_shell else ():
        if line.startswith("lshfm ") and not any(text in line for text in ABSENT):
            yield line


LINES = [(block, line) for block in BLOCKS for line in lines_of(block) if not line.startswith("lshfm completion")]


def draw(folder: Path) -> None:
    """DIR, with train.csv, test.csv and their pictures, and what the pages call photo.jpg and photos."""
    split = Shapes(num_train=DRAWN + 10, num_eval=1).split("train")
    pictures = [Image.fromarray(split.images.pixels(number, 32)) for number in range(len(split))]
    rows = []
    for number, picture in enumerate(pictures):
        name = f"images/{number:04}.jpg"
        (folder / "DIR/images").mkdir(parents=True, exist_ok=True)
        picture.save(folder / "DIR" / name)
        shown = [each for each, mark in zip(split.classes, split.labels[number], strict=True) if mark > 0]
        rows.append(f"{name},{';'.join(shown)}")
    for name, part in (("train", rows[:DRAWN]), ("test", rows[DRAWN:])):
        (folder / f"DIR/{name}.csv").write_text("\n".join(["path,labels", *part]) + "\n")
    shutil.copytree(ROOT / "examples/photos", folder / "examples/photos")
    (folder / "photos").mkdir()
    for name in ("photo.jpg", "photos/1.jpg", "photos/2.jpg"):
        pictures[0].save(folder / name)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the trained networks and runs that pages call NAME, A, B, ..., and pictures."""
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("world")
    draw(folder)
    for name in ("NAME", "A", "B", "teacher_s0", "shapes_resnet20_bce_s0"):
        model = "resnet20" if name == "shapes_resnet20_bce_s0" else "resnet8"
        seed = f"seed={name == 'B':d}"
        here(folder, "train", f"model={model}", *SMALL, *CPU, "epochs=1", f"name={name}", seed)
    student = ("teacher=A", "student=resnet8", "loss.hash_num=64", "name=pupil")
    here(folder, "mimic", *student, *SMALL, *CPU, "epochs=1")
    here(folder, "export", "NAME", "format=onnx", *CPU[1:])
    return folder


def smaller(words: list[str], page: str) -> list[str]:
    """A command line with few images, one epoch unless the page says how many, and no weights to fetch."""
    command = words[0]
    given = [SMALLER.get(word, word) for word in words]
    if page == "docs/metrics.md":
        given = [word.replace("checkpoint=teacher", "checkpoint=NAME") for word in given]
    if command == "export":
        return [*given, "overwrite=true"]
    if command not in ("train", "mimic"):
        return given
    data = () if any(word.startswith("settings=") for word in words) else OWN if "DIR" in " ".join(words) else SMALL
    epochs = () if any("epochs=" in word and word not in ("stage1.epochs=1",) for word in words) else ("epochs=1",)
    batches = ("batch_size=8",) if data is OWN else ()
    return [*given, *data, *CPU, *epochs, *batches]


@pytest.mark.parametrize("page", sorted({block.page for block, _ in LINES}))
def test_lines_run_in_their_order(page: str, world: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(world, tmp_path / "here")
    if page != "docs/own-images.md":  # others hold a part of train.csv out
        (folder / "DIR/test.csv").unlink()
    lines = [(block, line) for block, line in LINES if block.page == page]
    for block, line in lines:
        _, *words = shlex.split(line)
        try:
            assert here(folder, *smaller(words, page)) or words[0] == "recipes"
        except AssertionError as error:
            raise AssertionError(f"{page}:{block.line}: {line}\n{error}") from error


def test_most_lines_run() -> None:
    """The rule that leaves lines out does not leave out what could run."""
    assert len(LINES) > 60
    texts = [line for block in BLOCKS if block.is_shell for line in block.commands()]
    assert [text for text in ABSENT if not any(text in line for line in texts)] == []
