"""What needs a GPU: the device's arithmetic against the CPU's, determinism, resuming, bf16, mimicking."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from lshfm.datasets.augment import Augment
from lshfm.datasets.loader import View
from lshfm.datasets.shapes import Shapes
from lshfm.losses.classification import BCE
from lshfm.losses.features import L2
from lshfm.losses.lsh import LSH, HashFunctions, draw_weights, hash_bias, teacher_std
from lshfm.metrics.mimicry import compare, measure
from lshfm.models.cifar import cifar_classifier
from lshfm.objectives.align import Align
from lshfm.objectives.learner import Learner
from lshfm.objectives.mimic import Mimic
from lshfm.objectives.supervised import Supervised
from lshfm.objectives.teacher import Teacher
from lshfm.objectives.terms import Term, Terms
from tests.processes import Process

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")]

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
            losses.append(objective.to(device)(batch)["bce"].item())
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


def lshfm(folder: Path, *words: str) -> None:
    """Run a command to its end: forked off a server, which has not touched the device."""
    process = Process(*words, f"dataset.cache_dir={folder}/stores", folder=folder, environment=os.environ)
    assert process.wait() == 0, "".join(process.communicate())


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


def test_medians_taken_in_chunks_equal_those_of_the_cpu() -> None:
    features, weights = draw_weights(1000, 64, 1.0, seed=1).abs_(), draw_weights(4096, 64, 0.1, seed=0)
    told: list[int] = []
    on_cpu = hash_bias(features, weights, "median")
    on_gpu = hash_bias(features.cuda(), weights, "median", report=lambda done, _: told.append(done), max_bytes=2**20)
    assert len(told) > 1
    assert on_gpu.device == weights.device
    torch.testing.assert_close(on_gpu, on_cpu, rtol=1e-5, atol=1e-5)
    # Most medians are the products of the very same image, and so agree to the last digits.
    assert ((on_gpu - on_cpu).abs() <= 2e-6).float().mean() > 0.9


@pytest.mark.parametrize("form", ["bce", "l1", "l2"])
def test_the_hash_loss_is_fp32_under_bf16(form: str) -> None:
    weights = draw_weights(512, 64, 0.1, seed=0).cuda()
    loss = LSH(HashFunctions(weights, torch.zeros(512, device="cuda"), 0.1, 0, "zero"), form)
    feature_s, feature_t = (torch.randn(16, 64, device="cuda") for _ in range(2))
    plain = loss(feature_s, feature_t)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        mixed = loss(feature_s, feature_t)
    assert mixed.dtype == torch.float32
    assert torch.equal(plain, mixed)


def learner(stage: int, precision: str) -> Learner:
    """A stage's objective on the GPU: resnet8 to resnet14 by L2 and LSH."""
    torch.manual_seed(0)
    student, teacher = cifar_classifier("resnet8", 12, projection=64), Teacher(cifar_classifier("resnet14", 12))
    functions = HashFunctions(draw_weights(128, 64, 0.1, seed=0), torch.zeros(128), 0.1, 0, "zero")
    terms = Terms([Term("l2", 1.0, L2()), Term("lsh", 1.0, LSH(functions))])
    if stage == 1:
        return Align(student, teacher, terms, precision=precision).cuda()
    return Mimic(
        student, teacher, label_loss=BCE(), label_name="bce", gamma=1.0, feature_terms=terms, logit_terms=Terms([]),
        precision=precision,
    ).cuda()  # fmt: skip


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("stage", [1, 2])
def test_a_step_of_each_stage_is_finite(pixels: torch.Tensor, stage: int, precision: str) -> None:
    objective = learner(stage, precision).train()
    images = View(MEAN, STD)(pixels.cuda(), torch.arange(64), seed=0, epoch=0)
    labels = torch.from_numpy(Shapes().split("train").labels[:64]).cuda()
    losses = objective(type("B", (), {"images": images, "labels": labels}))
    assert losses.keys() == ({"l2", "lsh"} if stage == 1 else {"bce", "l2", "lsh"})
    assert all(loss.dtype == torch.float32 and torch.isfinite(loss) for loss in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    learnt = {name for name, tensor in objective.model.named_parameters() if tensor.grad is not None}
    assert learnt == {name for name, _ in objective.model.named_parameters() if stage == 2 or "projection" in name}
    assert all(torch.isfinite(tensor.grad).all() for tensor in objective.parameters() if tensor.grad is not None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a resnet20 that has learnt something."""
    folder = tmp_path_factory.mktemp("trained")
    lshfm(folder, "train", "epochs=5")
    return folder


STAGES = ("mimic", "teacher=resnet20", "student=resnet8", "epochs=1", "loss.hash_num=256")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_both_stages_run_and_agree_to_the_bit(trained: Path, precision: str) -> None:
    weights = []
    for name in ("a", "b"):
        lshfm(trained, *STAGES, f"precision={precision}", "deterministic=true", f"name={precision}_{name}")
        content = torch.load(trained / f"checkpoints/{precision}_{name}_stage2.ckpt", weights_only=True)
        weights.append(content["model"])
        mimicry = json.loads((trained / f"outputs/mimic/{precision}_{name}_stage2/results.json").read_text())["report"]
        assert 50 < mimicry["mimicry"]["hash_agreement"] <= 100
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_bf16_teacher_keeps_its_hash_bits(trained: Path) -> None:
    content = torch.load(next((trained / "checkpoints").glob("*bce*.ckpt")), weights_only=True)
    network = cifar_classifier("resnet20", 12)
    network.load_state_dict(content["model"])
    source = Shapes().split("test").images
    pixels = torch.from_numpy(np.stack([source.pixels(i, 32) for i in range(256)]))  # of the size it has learnt
    images = View(MEAN, STD)(pixels.cuda(), torch.arange(256), seed=0, epoch=0)
    features = [Teacher(network, precision=p).cuda().embed(images)[0].cpu() for p in ("fp32", "bf16")]
    weights = draw_weights(2048, 64, teacher_std(network.classifier.weight.cpu()), seed=0)
    bias = hash_bias(features[0], weights, "median")
    feature_s, feature_t = features[1].numpy(), features[0].numpy()
    found = measure(feature_s, feature_t, compare(feature_s, feature_t, weights.numpy(), bias.numpy()))
    assert found["hash_agreement"] is not None
    assert found["hash_agreement"] >= 99
