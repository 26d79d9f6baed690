"""The published way, written plainly: Pillow's transforms in a DataLoader's workers, NCHW, four `.item()` a step."""

import csv
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.speed.photos import CLASSES

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Pictures(Dataset[tuple[Tensor, Tensor]]):
    """A manifest's pictures, decoded, resized, flipped, jittered and normalised one at a time."""

    def __init__(self, folder: Path, size: int) -> None:
        with (folder / "train.csv").open(newline="") as file:
            self.rows = [(folder / row["path"], row["labels"].split(";")) for row in csv.DictReader(file)]
        self.transform = transforms.Compose([
            transforms.Resize((size, size)), transforms.RandomHorizontalFlip(),
            transforms.ColorJitter(0.3, 0.3, 0.3), transforms.ToTensor(), transforms.Normalize(MEAN, STD),
        ])  # fmt: skip

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        path, labels = self.rows[number]
        target = torch.zeros(CLASSES)
        target[[int(label[5:]) for label in labels]] = 1
        with Image.open(path) as image:
            return self.transform(image.convert("RGB")), target


class PublishedStep:
    """A step of stage 1, stage 2, or of training without a teacher (stage 0), with its meters read at every step.

    In stage 1 the projection learns, and the gradients of the whole student are computed all the same.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module | None, stage: int, num_hash: int = 2048) -> None:
        self.student, self.stage = student.train(), stage
        self.teacher = teacher.eval().requires_grad_(False) if teacher is not None else None
        learnt = student.projection.parameters() if stage == 1 else student.parameters()  # type: ignore[union-attr]
        self.optimizer = torch.optim.SGD(learnt, lr=0.001, momentum=0.9, weight_decay=1e-5)
        some = next(student.parameters())
        width = int(teacher.num_features) if teacher is not None else 1  # type: ignore[arg-type]
        self.hash = torch.randn(num_hash, width, device=some.device)
        self.bias = torch.zeros(num_hash, device=some.device)
        self.meters = [0.0] * 4

    def __call__(self, images: Tensor, targets: Tensor) -> None:
        feature, logits = self.student(images)
        losses = [F.binary_cross_entropy_with_logits(logits, targets)] if self.stage != 1 else []
        if self.teacher is not None:
            with torch.no_grad():
                feature_t, _ = self.teacher(images)
            losses.append((feature - feature_t).square().mean())
            if self.stage == 2:
                bits = (F.linear(feature_t, self.hash, self.bias) > 0).float()
                hashes = F.linear(feature, self.hash, self.bias)
                losses.append(F.binary_cross_entropy_with_logits(hashes, bits))
        loss = torch.stack(losses).sum()
        self.student.zero_grad()
        loss.backward()
        self.optimizer.step()
        values = [loss, *losses, loss, loss][:4]
        self.meters = [meter + value.item() for meter, value in zip(self.meters, values, strict=True)]


def loader(folder: Path, size: int, batch: int, workers: int) -> DataLoader[tuple[Tensor, Tensor]]:
    """As published: shuffled batches by so many workers."""
    return DataLoader(
        Pictures(folder, size), batch, shuffle=True, num_workers=workers, drop_last=True,
        pin_memory=torch.cuda.is_available(), persistent_workers=workers > 0,
    )  # fmt: skip


def images_per_second(step: Any, batches: Any, device: torch.device, *, epochs: int, batch: int) -> float:
    """Over all epochs but the first, in which workers start."""
    seconds, steps = 0.0, 0
    for epoch in range(epochs):
        start = time.perf_counter()
        for images, targets in batches:
            step(images.to(device, non_blocking=True), targets.to(device, non_blocking=True))
            steps += epoch > 0
        seconds += (time.perf_counter() - start) * (epoch > 0)
    return steps * batch / seconds
