"""Detection the way torchvision's references train it, written plainly: a DataLoader of whole pictures, fp32, SGD."""

import csv
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler, Sampler
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import BackboneWithFPN, resnet_fpn_backbone
from torchvision.models.mobilenetv2 import mobilenet_v2
from torchvision.ops import FrozenBatchNorm2d
from torchvision.transforms.functional import pil_to_tensor

from benchmarks.speed.photos import CLASSES, QUALITY, photo
from lshfm.metrics.boxes import Found, Truth
from lshfm.metrics.coco_detection import coco_figures

COLUMNS = ("path", "label", "xmin", "ymin", "xmax", "ymax")
Target = dict[str, Tensor]


def make_box_photos(folder: Path, num: int, *, distinct: int = 32) -> Path:
    """A manifest of `num` photos with one to four boxes each, a quarter of them upright; all are tested on, too."""
    if (folder / "done").is_file():
        return folder
    (folder / "images").mkdir(parents=True, exist_ok=True)
    numbers = np.random.default_rng(0)
    rows: list[tuple[str | int, ...]] = []
    for number in range(num):
        width, height = (375, 500) if number % 4 == 3 else (500, 375)
        path = folder / f"images/{number:06d}.jpg"
        if number < distinct:
            photo(number, width, height).save(path, quality=QUALITY)
        else:
            path.write_bytes((folder / f"images/{number % distinct:06d}.jpg").read_bytes())
        for _ in range(int(numbers.integers(1, 5))):
            left, top = int(numbers.integers(0, width // 2)), int(numbers.integers(0, height // 2))
            right, bottom = int(numbers.integers(left + 40, width)), int(numbers.integers(top + 40, height))
            label = f"class{(number + len(rows)) % CLASSES:02d}"
            rows.append((f"images/{number:06d}.jpg", label, left, top, right, bottom))
    for name in ("train", "test"):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([COLUMNS, *rows])
    (folder / "classes.txt").write_text("".join(f"class{c:02d}\n" for c in range(CLASSES)))
    (folder / "done").touch()
    return folder


class BoxPhotos(Dataset[tuple[Tensor, Target]]):
    """Pictures as floats in [0, 1] with their boxes, mirrored by chance in training."""

    def __init__(self, folder: Path, *, mirror: bool) -> None:
        found: dict[str, list[list[int]]] = defaultdict(list)
        with (folder / "train.csv").open(newline="") as file:
            for path, label, *box in list(csv.reader(file))[1:]:
                found[path].append([int(label[5:]) + 1, *map(int, box)])
        self.rows = [(folder / path, np.array(rows)) for path, rows in found.items()]
        self.mirror = mirror

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> tuple[Tensor, Target]:
        path, rows = self.rows[number]
        with Image.open(path) as image:
            picture = pil_to_tensor(image.convert("RGB"))
        boxes = torch.from_numpy(rows[:, 1:]).float()
        if self.mirror and random.random() < 0.5:
            picture, width = picture.flip(2), picture.shape[2]
            boxes = torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1)
        return picture.to(torch.float32).div(255), {"boxes": boxes, "labels": torch.from_numpy(rows[:, 0])}


class OfOneShape(Sampler[list[int]]):
    """Shuffled batches of pictures that are all upright or all not."""

    def __init__(self, pictures: BoxPhotos, batch: int) -> None:
        self.upright = []
        for path, _ in pictures.rows:
            with Image.open(path) as image:
                self.upright.append(image.height > image.width)
        self.order, self.batch = RandomSampler(pictures), batch

    def __iter__(self) -> Iterator[list[int]]:
        waiting: dict[bool, list[int]] = {False: [], True: []}
        for number in self.order:
            own = waiting[self.upright[number]]
            own.append(number)
            if len(own) == self.batch:
                yield own.copy()
                own.clear()


def collate(rows: Sequence[Any]) -> tuple[Any, ...]:
    """Pictures, and their targets."""
    return tuple(zip(*rows, strict=True))


def network(
    backbone: str, sizes: Sequence[int], *, longest: int, channels: int, proposals: int, outputs: int = CLASSES + 1
) -> nn.Module:
    """torchvision's Faster R-CNN on a pyramid, its numbers of proposals as published."""
    if backbone == "mobilenet_v2":
        features = mobilenet_v2(weights=None, norm_layer=FrozenBatchNorm2d).features
        features[:2].requires_grad_(False)
        stages = {"3": "0", "6": "1", "13": "2", "18": "3"}
        widths = [features[int(name)].out_channels for name in stages]
        pyramid: nn.Module = BackboneWithFPN(features, stages, widths, channels)
    else:
        pyramid = resnet_fpn_backbone(backbone_name=backbone, weights=None, trainable_layers=3)
    made: nn.Module = FasterRCNN(
        pyramid, outputs, min_size=tuple(sizes), max_size=longest, box_batch_size_per_image=proposals,
        rpn_pre_nms_top_n_train=4000, rpn_pre_nms_top_n_test=2000,
    )  # fmt: skip
    return made


def training_rate(
    detector: nn.Module, folder: Path, device: torch.device, *, batch: int, workers: int, epochs: int
) -> float:
    """Images a second of training over all epochs but the first; every step reads its losses, as the references do."""
    pictures = BoxPhotos(folder, mirror=True)
    batches = DataLoader(pictures, batch_sampler=OfOneShape(pictures, batch), num_workers=workers, collate_fn=collate)
    learnt = [each for each in detector.parameters() if each.requires_grad]
    optimizer = torch.optim.SGD(learnt, lr=1e-6, momentum=0.9, weight_decay=1e-4)
    detector.train()
    seconds, images = 0.0, 0
    for epoch in range(epochs):
        start = time.perf_counter()
        for pixels, targets in batches:
            sent = [each.to(device) for each in pixels]
            losses = detector(sent, [{name: each.to(device) for name, each in own.items()} for own in targets])
            total = torch.stack(list(losses.values())).sum()
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            _ = [total.item(), *(loss.item() for loss in losses.values())]
            images += len(pixels) * (epoch > 0)
        seconds += (time.perf_counter() - start) * (epoch > 0)
    return images / seconds


@torch.no_grad()
def evaluation_rate(detector: nn.Module, folder: Path, device: torch.device, *, workers: int) -> float:
    """Images a second of an evaluation, one at a time, with COCOeval's figures."""
    pictures = BoxPhotos(folder, mirror=False)
    loader = DataLoader(pictures, num_workers=workers, collate_fn=collate)
    detector.eval()
    start, found, targets = time.perf_counter(), [], []
    for (pixels,), (own,) in loader:
        (outputs,) = detector([pixels.to(device)])
        found.append({name: each.cpu().numpy() for name, each in outputs.items()})
        targets.append({name: each.numpy() for name, each in own.items()})
    coco_figures(_truth(targets), _found(found), len(pictures), CLASSES)
    return len(pictures) / (time.perf_counter() - start)


def _columns(rows: Sequence[dict[str, np.ndarray]], *names: str) -> list[np.ndarray]:
    image = np.repeat(np.arange(len(rows)), [len(each["labels"]) for each in rows])
    return [image, np.concatenate([each["labels"] for each in rows]).astype(np.int64) - 1,
            *(np.concatenate([each[name] for each in rows]).astype(np.float64) for name in names)]  # fmt: skip


def _truth(rows: Sequence[dict[str, np.ndarray]]) -> Truth:
    image, label, box = _columns(rows, "boxes")
    plain, areas = np.zeros(len(image), bool), (box[:, 2:] - box[:, :2]).prod(1)
    return Truth(image, label, box, plain, plain, areas)


def _found(rows: Sequence[dict[str, np.ndarray]]) -> Found:
    return Found(*_columns(rows, "boxes", "scores"))
