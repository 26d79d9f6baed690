"""CIFAR: images a second of training its small networks, whose steps take less than Python's part of them."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.speed import machine, tool
from benchmarks.speed.published import images_per_second
from benchmarks.speed.results import ratios
from benchmarks.speed.timing import summary
from lshfm.models.cifar import cifar_classifier

ARCH, CLASSES, BATCH = "resnet8x4", 100, 64
MEAN, STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)


def training(folder: Path, short: bool) -> dict[str, Any]:
    """The published loop and the tool take turns, from CIFAR's arrays to updated weights."""
    on_gpu = machine.device().type == "cuda"
    num = 256 if short else 50_000 if on_gpu else 2_560
    data = make(folder / f"cifar{num}", num)
    ways = {"tool, exact": ["speed=exact"]} | ({"tool, fast": ["speed=fast"]} if on_gpu else {})
    rates: dict[str, list[float]] = {}
    for _ in range(1 if short or on_gpu else 3):
        rates.setdefault("P", []).append(_published(data, 0 if short else machine.workers()))
        for name, settings in ways.items():
            with tempfile.TemporaryDirectory(dir=folder) as place:
                rates.setdefault(name, []).append(
                    tool.rate(Path(place), [*_words(data), *settings], epochs=3, limit=150)
                )
    found = {name: summary([1 / rate for rate in own], 1) | {"gates": []} for name, own in rates.items()}
    return {"arms": ratios(found, "P", None), "network": ARCH, "batch": BATCH, "images": num}


def make(folder: Path, num: int) -> Path:
    """Random pictures in the layout of the binary archive."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for name, records in (("train", num), ("test", 100)):
        pixels = random.integers(0, 256, (records, 3 * 32 * 32), np.uint8)
        labels = random.integers(0, (20, CLASSES), (records, 2)).astype(np.uint8)
        np.concatenate([labels, pixels], axis=1).tofile(folder / f"{name}.bin")
    return folder


def _words(data: Path) -> list[str]:
    return [
        "train", "dataset=cifar100", f"dataset.root={data}", f"model={ARCH}", f"batch_size={BATCH}", "lr=0.01",
        "log_every=1000000", "name=run", f"epochs={tool.ENDLESS}", f"eval_every={tool.ENDLESS}",
    ]  # fmt: skip


class _Pictures(Dataset[tuple[Tensor, Tensor]]):
    """As published: each picture by way of Pillow, padded, cropped, mirrored and normalised."""

    def __init__(self, file: Path) -> None:
        records = np.fromfile(file, np.uint8).reshape(-1, 2 + 3 * 32 * 32)
        self.labels, pixels = records[:, 1].astype(np.int64), records[:, 2:]
        self.pixels = np.ascontiguousarray(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        self.transform = transforms.Compose([
            transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ])  # fmt: skip

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        return self.transform(Image.fromarray(self.pixels[number])), torch.tensor(self.labels[number])


class _Step:
    """A step in fp32, with the loss and the accuracy read at every step."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network.train()
        self.optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
        self.loss = self.right = 0.0

    def __call__(self, images: Tensor, labels: Tensor) -> None:
        logits = self.network(images)[1]
        loss = F.cross_entropy(logits, labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.loss, self.right = self.loss + loss.item(), self.right + (logits.argmax(1) == labels).sum().item()


def _published(data: Path, workers: int) -> float:
    torch.manual_seed(0)
    place = machine.device()
    loader = DataLoader(
        _Pictures(data / "train.bin"), BATCH, shuffle=True, num_workers=workers, drop_last=True,
        pin_memory=place.type == "cuda", persistent_workers=workers > 0,
    )  # fmt: skip
    with machine.tried_algorithms():
        return images_per_second(_Step(cifar_classifier(ARCH, CLASSES).to(place)), loader, place, epochs=2, batch=BATCH)
