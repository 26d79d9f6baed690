"""A bf16 teacher beside its fp32 self: bits of its hashes, and the mAP of what it makes of pictures.

The teacher learns for some seconds from half of the pictures, as features of random weights hardly differ between
pictures. Its classes are there where a picture's light, seen coarsely, lies one way. Bits and mAP are of the rest.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.speed.arms import build
from benchmarks.speed.machine import device
from benchmarks.speed.photos import CLASSES, photo
from lshfm.losses.lsh import draw_weights, hash_bias
from lshfm.metrics.multilabel import measure
from lshfm.objectives.teacher import Teacher

ALLOWED_POINTS, LEAST_AGREEMENT = 0.1, 99.0  # of mAP; percent of the bits


def fidelity(arch: str, size: int, num: int, steps: int) -> dict[str, Any]:
    """Agreement of bits in percent, and both mAPs, on `num` pictures of size x size, after steps of 16 others."""
    images, labels = _pictures(2 * num, size)
    torch.manual_seed(0)
    network = build(arch).to(device())
    _learn(network, images[:num], labels[:num], steps)
    outputs = [_outputs(Teacher(network, precision=kind), images[num:]) for kind in ("fp32", "bf16")]
    weights = draw_weights(2048, outputs[0][0].shape[1], 0.02, 0)
    cut = hash_bias(outputs[0][0], weights, "median")
    bits = [features @ weights.T + cut > 0 for features, _ in outputs]
    agreement = 100 * float((bits[0] == bits[1]).float().mean())
    scores = [_mean_ap(logits, labels[num:]) for _, logits in outputs]
    passed = agreement >= LEAST_AGREEMENT and abs(scores[0] - scores[1]) <= ALLOWED_POINTS
    return {"passed": passed, "hash_agreement": round(agreement, 3), "mAP_fp32": round(scores[0], 3),
            "mAP_bf16": round(scores[1], 3), "network": arch, "images": num}  # fmt: skip


def _pictures(num: int, size: int) -> tuple[Tensor, np.ndarray]:
    """Pieces of 32 photos in light of many kinds, (n, 3, S, S), normalised, and their labels (n, C)."""
    random = np.random.default_rng(0)
    photos = [np.asarray(photo(number, 2 * size, 2 * size)) for number in range(32)]
    tops, lefts = random.integers(0, size, (2, num))
    pieces = [photos[n % 32][top : top + size, left : left + size] for n, (top, left) in enumerate(zip(tops, lefts))]  # noqa: B905
    pixels = torch.from_numpy(np.stack(pieces)).permute(0, 3, 1, 2).float().div_(255)
    gain, shift = random.uniform(0.5, 1.5, (num, 1, 1, 1)), random.normal(0, 0.15, (num, 3, 1, 1))
    pixels = ((pixels - 0.45) * torch.from_numpy(gain).float() + 0.45 + torch.from_numpy(shift).float()).clamp_(0, 1)
    coarse = nn.functional.adaptive_avg_pool2d(pixels, 4).flatten(1).double().numpy()
    seen = coarse @ random.normal(size=(coarse.shape[1], CLASSES))
    labels = np.where(seen > np.median(seen, axis=0), 1, -1).astype(np.int8)
    return (pixels - 0.45) / 0.23, labels


def _learn(network: nn.Module, images: Tensor, labels: np.ndarray, steps: int) -> None:
    """Steps of SGD at a rate that falls to nothing."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    targets = torch.from_numpy(labels > 0).float()
    network.train()
    for chosen in torch.randint(len(images), (steps, 16), generator=torch.Generator().manual_seed(0)):
        _, logits = network(images[chosen].to(device()))
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(logits, targets[chosen].to(device())).backward()
        optimizer.step()
        schedule.step()


def _outputs(teacher: Teacher, images: Tensor) -> tuple[Tensor, Tensor]:
    """Features and logits on the CPU."""
    parts = [[each.cpu() for each in teacher.embed(part.to(device()))] for part in images.split(64)]
    features, logits = (torch.cat(column) for column in zip(*parts, strict=True))
    return features, logits


def _mean_ap(logits: Tensor, labels: np.ndarray) -> float:
    """In percent."""
    return float(measure(logits.numpy(), labels, [f"class{c}" for c in range(CLASSES)], "voc2010")["mAP"])
