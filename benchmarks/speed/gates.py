"""What must hold for a figure to count: pixels, captured steps, stage 1, tapes, hash bits are what they should be."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps

from benchmarks.speed.arms import Arm, Pair, build, step_of
from benchmarks.speed.fidelity import fidelity
from benchmarks.speed.machine import device
from benchmarks.speed.photos import photo
from benchmarks.speed.published import MEAN, STD
from lshfm.datasets.augment import Augment
from lshfm.datasets.fused import FusedView
from lshfm.files.tape import Tape
from lshfm.losses.lsh import draw_weights, drawn_bias, hash_bias
from lshfm.losses.windows import LEAST_AGREEMENT, agreement
from lshfm.models.detection.build import detector
from lshfm.models.detection.contract import Places
from lshfm.objectives.align import Projected
from lshfm.objectives.teacher import Teacher
from lshfm.ranks.device import is_better_in_bf16

ENHANCERS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
Gate = dict[str, Any]  # passed (None: does not apply here), and what was seen


def pixels() -> Gate:
    """Flipped and jittered batches equal Pillow's: everywhere on a CPU; on a GPU +-1 in under 1e-5 of the values.

    As speed=fast makes them: on a GPU by its kernels.
    """
    index, augment = torch.arange(8), Augment()
    pictures = [photo(number, 160, 120) for number in range(8)]
    batch = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).to(device())
    view = FusedView(MEAN, STD, augment)
    view(batch, index, seed=0, epoch=0)  # the first pictures are those of the plain operations
    found = _bytes(view(batch, index, seed=0, epoch=3))
    flips = augment.flips(index.numpy(), seed=0, epoch=3)
    kinds, factors = augment.jitters(index.numpy(), seed=0, epoch=3)
    expected = np.stack([
        np.asarray(_with_pillow(picture, flips[n], kinds[n], factors[n])) for n, picture in enumerate(pictures)
    ]).astype(int)  # fmt: skip
    difference = np.abs(found - expected)
    share = float((difference > 0).mean())
    worst, allowed = int(difference.max()), 0 if device().type == "cpu" else 1
    passed = worst <= allowed and share <= 1e-5
    return {"passed": passed, "largest_difference": worst, "share": share, "by_kernels": view.is_fused}


def _bytes(images: torch.Tensor) -> np.ndarray:
    """Normalised images (B, 3, h, w) as pixels (B, h, w, 3)."""
    mean, std = (torch.tensor(numbers, dtype=torch.float64).view(3, 1, 1) for numbers in (MEAN, STD))
    values = ((images.cpu().double() * std + mean) * 255).round()
    return values.permute(0, 2, 3, 1).numpy().astype(int)


def _with_pillow(picture: Image.Image, flip: bool, kinds: np.ndarray, factors: np.ndarray) -> Image.Image:
    picture = ImageOps.mirror(picture) if flip else picture
    for kind, factor in zip(kinds, factors, strict=True):
        picture = ENHANCERS[kind](picture).enhance(factor)
    return picture


def graph() -> Gate:
    """50 captured steps have the losses of eager ones, to 1e-6 relative, in fp32 without TF32."""
    if device().type != "cuda":
        return {"passed": None, "why": "there is no GPU"}
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    eager, captured = Arm("eager", capturable=True), Arm("graph", graph=True)  # with the same optimiser
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        pair = Pair("resnet34", "resnet18", 8, 96, 2)
        steps = [step_of(arm, pair) for arm in (eager, captured)]
        losses = [_losses(step, 50) for step in steps]
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
        torch.use_deterministic_algorithms(False)
    worst = float((losses[0] - losses[1]).abs().div(losses[0].abs()).max())
    return {"passed": worst <= 1e-6 and not steps[1].lacks, "largest_relative_difference": worst,
            "lacks": steps[1].lacks}  # fmt: skip


def _losses(step: Callable[[], Any], steps: int) -> torch.Tensor:
    return torch.stack([torch.stack(list(step().values())).sum() for _ in range(steps)]).double().cpu()


def stage1() -> Gate:
    """Without gradients through the backbone, features and BatchNorm's statistics are the same to the bit."""
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)).to(device())
    outcomes = []
    for projected in (True, False):
        network = Pair("resnet18", "resnet18", 4, 64, 1).networks()[0].to(device()).train()
        feature = Projected(network)(images) if projected else network(images)[0]
        outcomes.append([feature.detach(), *network.buffers()])
    return {"passed": all(torch.equal(a, b) for a, b in zip(*outcomes, strict=True))}


def tape() -> Gate:
    """What a tape gives back is what was recorded, to the bit."""
    rows = np.random.default_rng(0).normal(size=(64, 532)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        recorded = Tape(Path(folder), 64, 532)
        recorded.write(3, np.arange(64), rows)
        found, is_there = recorded.read(3, np.arange(64)[::-1])
        recorded.close()
    return {"passed": bool(is_there.all() and np.array_equal(found, rows[::-1]))}


def bias() -> Gate:
    """Medians in chunks equal those of the whole matrix: to the bit on a CPU, to a last digit of fp32 on a GPU."""
    features = draw_weights(501, 64, 1.0, seed=1).abs_().to(device())
    weights = draw_weights(2000, 64, 0.02, seed=0)
    whole = -(weights.to(features.device) @ features.T).median(dim=1).values.cpu()
    ways = (hash_bias(features, weights, "median", max_bytes=2**22).cpu(), drawn_bias(features, 2000, 0.02, 0))
    worst = max(float((way - whole).abs().max()) for way in ways)
    return {"passed": worst == 0 if device().type == "cpu" else worst < 1e-6, "largest_difference": worst}


def bf16() -> Gate:
    """A bf16 teacher has 99 % of the hash bits of its fp32 self, by medians, and a mAP within 0.1 of its."""
    if not is_better_in_bf16(device()):
        return {"passed": None, "why": "bf16 is no faster here, and not used"}
    return fidelity(*(("resnet34", 224, 1024, 300) if device().type == "cuda" else ("resnet18", 64, 256, 60)))


def cast() -> Gate:
    """A bf16 teacher whose weights are cast once has the outputs of one that casts them in every step, to the bit."""
    if not is_better_in_bf16(device()):
        return {"passed": None, "why": "bf16 is no faster here, and not used"}
    torch.manual_seed(0)
    images = torch.randn(4, 3, 64, 64, device=device())
    teachers = [Teacher(build(name).to(device()), precision="bf16") for name in ("resnet34", "mobilenet_v2")]
    return {"passed": all(teacher.cast_once(images) for teacher in teachers)}


def windows() -> Gate:
    """Products of a detector's windows in bf16, and on a GPU in TF32, leave 99 % of the hash bits as in fp32."""
    torch.manual_seed(0)
    size = 512 if device().type == "cuda" else 128
    network = detector("retinanet_mobilenet_v2_fpn", 21, size).to(device()).eval()
    picture = torch.from_numpy(np.array(photo(0, size, size))).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        maps = network.features(Places(((picture / 255 - 0.45) / 0.23).to(device()), [(size, size)]))  # type: ignore[operator]
    weights = draw_weights(256, network.num_features, 0.02, 0).to(device())  # type: ignore[arg-type]
    kinds = {"bf16": torch.bfloat16} | ({"tf32": torch.float32} if device().type == "cuda" else {})
    found = {name: agreement(maps, weights, torch.zeros(256).to(device()), kind) for name, kind in kinds.items()}
    return {"passed": min(found.values()) >= LEAST_AGREEMENT, "weights": "random",
            "hash_agreement": {name: round(100 * share, 3) for name, share in found.items()}}  # fmt: skip


GATES: dict[str, Callable[[], Gate]] = {
    "pixels": pixels, "graph": graph, "stage1": stage1, "tape": tape, "bias": bias, "bf16": bf16, "cast": cast,
    "windows": windows,
}  # fmt: skip


def check() -> dict[str, Gate]:
    """Every gate; one that raises has failed."""
    found: dict[str, Gate] = {}
    for name, gate in GATES.items():
        try:
            found[name] = gate()
        except Exception as error:  # noqa: BLE001 - a gate is there to find whatever is wrong
            found[name] = {"passed": False, "why": f"{type(error).__name__}: {error}"}
    return found
