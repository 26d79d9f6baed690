"""A table of whole runs, a line a capability: trained, stopped in the second epoch, continued, evaluated.

Each ends where the undisturbed run does, to the bit.
"""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.cli.conftest import Start, here
from tests.cli.killing import STEP, Trap

SAMPLES = Path(__file__).resolve().parents[1] / "samples"
COMMON = ("epochs=2", "batch_size=16", "lr=0.05", "log_every=1", "workers=0", "gpus=[]", "dataset.cache=off")
SHAPES = ("dataset.num_train=32", "dataset.num_eval=16", "dataset.size=16")
TRAIN = ("train", *COMMON, *SHAPES, "model=resnet8")
MIMIC = ("mimic", *COMMON, *SHAPES, "student=resnet8", "teacher=teacher")
STAGE_2 = (*MIMIC, "stage=2", "student.init=none")
LSH = "loss.hash_num=16"
OWN = ("--config-dir", str(SAMPLES / "conf"))

MANY = (
    "optimizer=adam", "lr=0.001", "clip_grad=0.5", "freeze_epochs=1", "head_lr=10", "decay_weights_only=true",
    "balanced=true", "dataset.holdout=0.25", "early_stop=1", "ema=0.9", "accumulate=2", "batch_size=8",
)  # fmt: skip

# What is typed beyond that, and the losses that every step logs.
RUNS: dict[str, tuple[tuple[str, ...], set[str]]] = {
    "train": (TRAIN, {"bce"}),
    "asl": ((*TRAIN, "loss=asl"), {"asl"}),
    "accumulate": ((*TRAIN, "accumulate=2"), {"bce"}),
    "ema": ((*TRAIN, "ema=0.9"), {"bce"}),
    "freeze": ((*TRAIN, "freeze=[bn_stats,bn_affine]"), {"bce"}),
    "holdout, the best epoch": ((*TRAIN, "dataset.holdout=0.5", "select=best", "batch_size=8"), {"bce"}),
    "adamw with warm-up": ((*TRAIN, "optimizer=adamw", "lr=0.001", "schedule.warmup=1"), {"bce"}),
    "steps": ((*TRAIN, "schedule.steps=[1]"), {"bce"}),
    "many at once": ((*TRAIN, *MANY, "loss.pos_weight=auto", "loss.label_smoothing=0.1", "schedule=onecycle"), {"bce"}),
    "many at once, both stages": (
        (*MIMIC, *MANY, LSH, "label_loss.pos_weight=auto", "stage1.head_lr=1", "stage2.schedule=onecycle"),
        {"bce", "l2", "lsh"},
    ),
    "class weights": ((*TRAIN, "loss.pos_weight=[1,2,3,4,5,6,7,8,9,10,11,12]"), {"bce"}),
    "bf16": ((*TRAIN, "precision=bf16", "channels_last=true"), {"bce"}),
    "fast": ((*TRAIN, "speed=fast", "dataset.cache=device", "ema=0.9"), {"bce"}),
    "batch norm in groups": ((*TRAIN, "bn_group_size=4"), {"bce"}),
    "dropout": ((*TRAIN, "model=mobilenet_v2", "model.weights=none", "dataset.size=32", "accumulate=2"), {"bce"}),
    "own network": ((*TRAIN, *OWN, "model=narrow"), {"bce"}),
    "own images": (
        ("train", *COMMON, "dataset=manifest", "dataset.root=.", "model=resnet8", "dataset.size=16"),
        {"bce"},
    ),
    "both stages": ((*MIMIC, LSH), {"bce", "l2", "lsh"}),
    "stage 1": ((*MIMIC, "stage=1", "loss=l2"), {"l2"}),
    "l1": ((*STAGE_2, "loss=l1"), {"bce", "l1"}),
    "l2": ((*STAGE_2, "loss=l2", "loss.gamma=0.5"), {"bce", "l2"}),
    "lsh": ((*STAGE_2, "loss=lsh", LSH, "loss.form=l1"), {"bce", "lsh"}),
    "lshl2": ((*STAGE_2, "loss=lshl2", LSH, "loss.bias=mean"), {"bce", "l2", "lsh"}),
    "kl": ((*STAGE_2, "loss=kl", "loss.beta=0.001"), {"bce", "kl"}),
    "kl_sigmoid": ((*STAGE_2, "loss=kl_sigmoid", "loss.temperature=2"), {"bce", "kl_sigmoid"}),
    "two losses": (
        (*STAGE_2, "loss=[l2,kl_sigmoid]", "loss.kl_sigmoid.weight=0.5", "label_loss=asl"),
        {"asl", "l2", "kl_sigmoid"},
    ),
    "no projection": ((*STAGE_2, "loss=l2", "student.projection=false"), {"bce", "l2"}),
    "a teacher's path": ((*STAGE_2, "loss=l2", "teacher=checkpoints/teacher.ckpt"), {"bce", "l2"}),
    "own student": ((*STAGE_2, *OWN, "loss=l2", "student=narrow"), {"bce", "l2"}),
}


ALWAYS = {
    "train",
    "holdout, the best epoch",
    "both stages",
}  # in the fast tier; all in the other


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a teacher, and with a user's own images."""
    folder = tmp_path_factory.mktemp("home")
    here(folder, *TRAIN, "epochs=1", "name=teacher")
    shutil.rmtree(folder / "outputs")
    chance = np.random.default_rng(0)
    for split, count in (("train", 32), ("test", 16)):
        lines = ["path,labels"]
        for i in range(count):
            Image.fromarray(chance.integers(0, 256, (16, 16, 3), np.uint8)).save(folder / f"{split}{i}.png")
            lines.append(f"{split}{i}.png,{'odd' if i % 2 else 'even'}")
        (folder / f"{split}.csv").write_text("\n".join(lines))
    return folder


def lines(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without what is measured in time."""
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    measured = {"time", "seconds", "images_per_second", "waiting"}
    return [{k: v for k, v in line.items() if k not in measured} for line in found]


def results(run: Path) -> Any:
    return json.loads((run / "results.json").read_text())


def assert_same(whole: Path, parts: Path) -> None:
    """Equal weights to the bit, equal lines at every step, equal results."""
    ours, theirs = (torch.load(run.parents[2] / f"checkpoints/{run.name}.ckpt")["model"] for run in (parts, whole))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert lines(parts) == lines(whole)
    kept = ("history", "report", "score", "epoch", "best")
    assert [results(parts)[key] for key in kept] == [results(whole)[key] for key in kept]


@pytest.mark.parametrize("name", [n if n in ALWAYS else pytest.param(n, marks=pytest.mark.slow) for n in RUNS])
def test_a_whole_run(home: Path, start: Start, tmp_path: Path, name: str) -> None:
    shutil.copytree(home, tmp_path, dirs_exist_ok=True)
    words, losses = RUNS[name]
    here(tmp_path, *words, "name=whole")
    wholes = sorted(tmp_path.glob("outputs/*/whole*"))
    assert len(wholes) == (2 if "both stages" in name else 1)

    last_stage_from = sum("step" in line for run in wholes[:-1] for line in lines(run))
    per_epoch = sum(line["epoch"] == 1 and "step" in line for line in lines(wholes[-1]))
    trap = Trap(STEP, last_stage_from + per_epoch + 1, signal=signal.SIGTERM)
    stopped = start(*words, "name=parts", trap=trap)
    assert stopped.wait() == 143, stopped.communicate()
    assert not (tmp_path / f"checkpoints/{wholes[-1].name.replace('whole', 'parts')}.ckpt").exists()
    assert "continuing after epoch 1" in here(tmp_path, *words, "name=parts")

    for whole in wholes:
        assert_same(whole, whole.with_name(whole.name.replace("whole", "parts")))
    steps = [line for line in lines(wholes[-1]) if "step" in line]
    assert all(line.keys() - {"version", "kind", "epoch", "step", "lr"} == losses for line in steps)

    checkpoint, own = f"checkpoint=checkpoints/{wholes[-1].name}.ckpt", OWN if OWN[0] in words else ()
    teacher = ["teacher=teacher"] if words[0] == "mimic" else []
    here(tmp_path, "eval", checkpoint, *own, *teacher, "gpus=[]", "workers=0", "dataset.cache=off", "name=e")
    assert results(tmp_path / "outputs/eval/e")["report"] == results(wholes[-1])["report"]
