"""What needs a GPU: the device's arithmetic against the CPU's, determinism, resuming, bf16."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lshfm.datasets.augment import Augment
from lshfm.datasets.loader import View
from lshfm.datasets.shapes import Shapes
from lshfm.losses.classification import BCE
from lshfm.models.cifar import cifar_classifier
from lshfm.objectives.supervised import Supervised

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")]

ROOT = Path(__file__).resolve().parents[2]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    images = Shapes().split("train").images
    return torch.from_numpy(np.stack([images.pixels(i, 64) for i in range(64)]))


def test_augmented_pixels_equal_those_of_the_cpu(pixels: torch.Tensor) -> None:
    augment, index = Augment(flip=0.5, brightness=0.3, contrast=0.3, saturation=0.3), torch.arange(64)
    on_cpu = augment(pixels, index, seed=1, epoch=2)
    on_gpu = augment(pixels.cuda(), index, seed=1, epoch=2).cpu()
    difference = (on_cpu.int() - on_gpu.int()).abs()
    assert difference.max() <= 1
    assert (difference > 0).float().mean() < 1e-5


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_step_equals_one_on_the_cpu(pixels: torch.Tensor, channels_last: bool) -> None:
    split = Shapes().split("train")
    torch.manual_seed(0)
    objective = Supervised(cifar_classifier("resnet8", 12), BCE(), "bce")
    losses, index = [], torch.arange(64)
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        for device in ("cpu", "cuda"):
            images = View(MEAN, STD, channels_last=channels_last)(pixels.to(device), index, seed=0, epoch=0)
            batch = type("B", (), {"images": images, "labels": torch.from_numpy(split.labels[:64]).to(device)})
            losses.append(float(objective.to(device)(batch)["bce"]))
    finally:
        torch.backends.cudnn.allow_tf32 = allowed
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_bf16_keeps_losses_in_fp32(pixels: torch.Tensor) -> None:
    objective = Supervised(cifar_classifier("resnet8", 12), BCE(), "bce", precision="bf16").cuda()
    images = View(MEAN, STD)(pixels.cuda(), torch.arange(64), seed=0, epoch=0)
    labels = torch.from_numpy(Shapes().split("train").labels[:64]).cuda()
    loss = objective(type("B", (), {"images": images, "labels": labels}))["bce"]
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)


def lshfm(folder: Path, *words: str) -> str:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "lshfm", *words, f"dataset.cache_dir={folder}/stores"]
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_deterministic_runs_agree_to_the_bit(tmp_path: Path) -> None:
    weights = []
    for name in ("a", "b"):
        lshfm(tmp_path, "train", "model=resnet8", "epochs=1", "deterministic=true", f"name={name}")
        content = torch.load(tmp_path / "checkpoints" / f"{name}.ckpt", weights_only=True)
        weights.append(content["model"])
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_checkpoint_from_the_gpu_scores_the_same_on_the_cpu(tmp_path: Path) -> None:
    lshfm(tmp_path, "train", "model=resnet8", "epochs=1", "precision=bf16", "channels_last=true", "name=a")
    scores = []
    for where in ("[0]", "[]"):
        lshfm(
            tmp_path, "eval", "checkpoint=checkpoints/a.ckpt", "precision=fp32", f"gpus={where}", f"name=e{len(where)}"
        )
        scores.append(json.loads((tmp_path / f"outputs/eval/e{len(where)}/results.json").read_text())["score"])
    assert scores[0] == pytest.approx(scores[1], abs=0.1)
