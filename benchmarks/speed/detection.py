"""Detection: images a second of training and evaluation beside torchvision's way, and RetinaNet's LSH term."""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.speed import detection_reference as reference
from benchmarks.speed import detection_step as steps
from benchmarks.speed import machine, tool
from benchmarks.speed.photos import CLASSES
from benchmarks.speed.results import ratios
from benchmarks.speed.timing import rounded, seconds_of, summary
from lshfm.datasets.box_loader import BoxLoader, BoxView, DecodedPictures
from lshfm.datasets.boxes import BoxSplit, box_split
from lshfm.datasets.manifest import Manifest
from lshfm.models.detection.build import detector
from lshfm.models.detection.transform import longest_side
from lshfm.tasks.detection.evaluation import evaluator

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Detector:
    """What is trained, and on how many pictures of which size."""

    backbone: str
    size: int
    batch: int
    photos: int
    channels: int = 256
    proposals: int = 512

    @property
    def arch(self) -> str:
        """The tool's name of it."""
        return f"fasterrcnn_{self.backbone}_fpn"

    @property
    def sizes(self) -> list[int]:
        """That shorter sides are drawn from in training: 11 from 0.6 x size to size."""
        return [round(self.size * (0.6 + 0.04 * step)) for step in range(11)]

    def theirs(self, sizes: list[int]) -> nn.Module:
        """torchvision's, which draws from `sizes`, and evaluates at the last."""
        torch.manual_seed(0)
        longest = longest_side(self.size)
        return reference.network(
            self.backbone, sizes, longest=longest, channels=self.channels, proposals=self.proposals
        ).to(machine.device())

    @property
    def design(self) -> dict[str, Any]:
        """The tool's keys of it."""
        own = {"fpn_channels": self.channels, "proposals": self.proposals}
        return own if self.backbone == "mobilenet_v2" else {}

    def ours(self) -> nn.Module:
        """The tool's."""
        return detector(self.arch, CLASSES + 1, self.size, **self.design).to(machine.device())

    def loader(self, photos: Path, *, shuffle: bool, workers: int = 0) -> tuple[BoxSplit, BoxLoader]:
        """The tool's pictures, at the largest size."""
        split = box_split(Manifest(photos), "test")
        return split, BoxLoader(
            DecodedPictures(split.images, workers), split, batch_size=self.batch if shuffle else 8,
            device=machine.device(), view=BoxView(MEAN, STD), shuffle=shuffle, sizes=[self.size],
        )  # fmt: skip

    def words(self, photos: Path) -> list[str]:
        """The tool's command."""
        only = [f"model.{name}={value}" for name, value in self.design.items()]
        return [
            "train", "dataset=boxes", f"dataset.root={photos}", f"dataset.size={self.size}", f"model={self.arch}",
            "model.weights=none", *only, f"batch_size={self.batch}", "lr=1e-6", "log_every=1000000", "name=run",
            f"epochs={tool.ENDLESS}", f"eval_every={tool.ENDLESS}",
        ]  # fmt: skip


def chosen(*, short: bool) -> Detector:
    """ResNet-50 at the published size on a GPU, a small MobileNetV2 on a CPU."""
    if machine.device().type == "cuda" and not short:
        return Detector("resnet50", 800, 8, 400)
    return Detector("mobilenet_v2", *((64, 2, 4) if short else (224, 4, 96)), channels=64, proposals=128)


def training(folder: Path, short: bool) -> dict[str, Any]:
    """Images a second from JPEGs to updated weights; torchvision's loop and the tool take turns."""
    made = chosen(short=short)
    photos = reference.make_box_photos(folder / f"boxes{made.photos}", made.photos)
    workers = 0 if short else machine.workers()
    ways = {"tool, exact": ["speed=exact", *(["workers=0"] if short else [])]}
    if machine.device().type == "cuda":
        ways["tool, fast"] = ["speed=fast"]
    rates: dict[str, list[float]] = {}
    for _ in range(1 if short else 3):
        rates.setdefault("torchvision", []).append(reference.training_rate(
            made.theirs(made.sizes), photos, machine.device(), batch=made.batch, workers=workers, epochs=2
        ))  # fmt: skip
        for name, settings in ways.items():
            with tempfile.TemporaryDirectory(dir=folder) as place:
                command = [*made.words(photos), *settings]
                rates.setdefault(name, []).append(tool.rate(Path(place), command, epochs=2, limit=150))
    return _arms(rates, made)


def _arms(rates: dict[str, list[float]], made: Detector) -> dict[str, Any]:
    found = {name: summary([1 / rate for rate in own], 1) | {"gates": []} for name, own in rates.items()}
    return {"arms": ratios(found, "torchvision", None), "detector": vars(made)}


def step(folder: Path, short: bool) -> dict[str, Any]:
    """Images a second of a step on the same decoded pictures, at the largest size: of a core, or of a GPU."""
    made = chosen(short=short)
    photos = reference.make_box_photos(folder / f"boxes{made.photos}", made.photos)
    theirs, rows = made.theirs([made.size]), list(range(made.batch))
    ours = made.ours()
    ours.load_state_dict(theirs.state_dict())
    split, loader = made.loader(photos, shuffle=True)
    pictures = reference.BoxPhotos(photos, mirror=False)
    works = {
        "torchvision": steps.of_torchvision(theirs, *zip(*(pictures[row] for row in rows), strict=True)),
        "tool, exact": steps.of_the_tool(ours, split, loader, rows),
    }
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():
        work()
    for _ in range(1 if short else 7):
        for name, work in works.items():
            seconds[name].append(steps.seconds_of_a_core(work))
    rates = {name: [made.batch / each for each in own] for name, own in seconds.items()}
    return _arms(rates, made) | {"percent": {name: steps.shares(work) for name, work in works.items()}}


def evaluation(folder: Path, short: bool) -> dict[str, Any]:
    """Images a second of an evaluation from JPEGs to AP; the tool's has all its definitions, of the same weights."""
    made = chosen(short=short)
    photos = reference.make_box_photos(folder / f"boxes{made.photos}", made.photos)
    theirs = made.theirs([made.size])
    _make_sure_of_detections(theirs)
    ours = made.ours()
    ours.load_state_dict(theirs.state_dict())
    workers = 0 if short else machine.workers()
    split, loader = made.loader(photos, shuffle=False, workers=workers)
    kinds = {"tool, exact": "fp32"} | ({"tool, bf16": "bf16"} if machine.device().type == "cuda" else {})
    rates: dict[str, list[float]] = {}
    for _ in range(1 if short else 3):
        rates.setdefault("torchvision", []).append(
            reference.evaluation_rate(theirs, photos, machine.device(), workers=workers)
        )
        for name, kind in kinds.items():
            evaluate = evaluator(loader, split, "coco_ap50", kind, features=False)
            rates.setdefault(name, []).append(len(split) / seconds_of(partial(evaluate, ours)))
    return _arms(rates, made)


def _make_sure_of_detections(network: Any) -> None:
    """Random weights give all classes alike, and so no detection: scores are spread until some are sure."""
    with torch.no_grad():
        network.roi_heads.box_predictor.cls_score.weight.mul_(50)


def term(context: Any) -> dict[str, Any]:
    """Seconds and memory of RetinaNet's LSH term at the published sizes, beside its arithmetic at the dense rate."""
    is_gpu, short, limits = torch.cuda.is_available(), context.short, context.limits()
    sizes = ["1", "64", "16"] if short else ["8" if is_gpu else "1", "4096", "256"]
    found: dict[str, Any] = {}
    for products in ("fp32", "bf16", "compiled") if is_gpu else ("fp32", "bf16"):
        own = _measured(*sizes, products, *(["64"] if short else []))
        own["arithmetic"] = rounded(own["operations"] / limits[f"{'fp32' if products == 'fp32' else 'bf16'}_flops"])
        own["to_arithmetic"] = rounded(own["seconds"] / own["arithmetic"])
        found[products] = own
    if not is_gpu and not short:  # a batch as published: its memory, which hangs on no number of functions
        found["8 images, 512 functions"] = _measured("8", "512", "256", "fp32")
    return found


def _measured(*words: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.speed.windows_term", *words]
    done = subprocess.run(command, env=tool.environment(), capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found
