"""The training step of speed=exact beside a plain PyTorch loop of the same arithmetic, on a CPU.

    python benchmarks/exact_step.py [--steps 40] [--size 32] [--batch 32] [--arch resnet8]

Both do mimic's stage 2 (label loss, LSH, L2) on the same stored pixels, end to end: gather, flip, jitter, normalise,
step, journal. The arms take turns; the ratio is of the medians of a step's time. 1 is the plain loop's.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lshfm.datasets.augment import Augment, normalise
from lshfm.datasets.loader import Loader, StoredPixels, View
from lshfm.datasets.shapes import Shapes
from lshfm.datasets.store import open_store
from lshfm.engine.assemble import assemble
from lshfm.engine.journal import Journal
from lshfm.engine.step import make_step
from lshfm.losses.classification import BCE
from lshfm.losses.features import L2
from lshfm.losses.lsh import LSH, HashFunctions, draw_weights
from lshfm.models.backbones import torchvision_classifier
from lshfm.models.cifar import CIFAR, cifar_classifier
from lshfm.objectives.mimic import Mimic
from lshfm.objectives.teacher import Teacher
from lshfm.objectives.terms import Term, Terms
from lshfm.ranks.allocator import keep_freed_memory

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Silent:
    """Lines that go nowhere."""

    def write(self, line: object) -> None: ...
    def forget_after(self, epochs_done: int, steps_done: int) -> None: ...


def network(arch: str) -> nn.Module:
    """A network of the size's kind, in the memory order that the tool uses."""
    make: Any = cifar_classifier if arch in CIFAR else torchvision_classifier
    built: nn.Module = make(arch, 12)
    return built.to(memory_format=torch.channels_last)


def functions(width: int) -> HashFunctions:
    """2048 hash functions."""
    return HashFunctions(draw_weights(2048, width, 0.1, seed=0), torch.zeros(2048), std=0.1, seed=0, rule="zero")


def tool(loader: Loader, arch: str) -> Callable[[], Iterator[float]]:
    """Steps of the tool; the seconds of each."""
    torch.manual_seed(0)
    student, teacher = network(arch), network(arch)
    terms = Terms([Term("lsh", 1.0, LSH(functions(student.num_features))), Term("l2", 1.0, L2())])  # type: ignore[arg-type]
    objective = Mimic(
        student, Teacher(teacher), label_loss=BCE(), label_name="bce", gamma=1.0, feature_terms=terms,
        logit_terms=Terms([]),
    )  # fmt: skip
    state = assemble(objective, optimizer="sgd", momentum=0.9, weight_decay=1e-5)
    step = make_step(state)

    def run() -> Iterator[float]:
        journal = Journal(
            Silent(), epochs=10**6, steps=len(loader), every=50,
            name_samples=lambda _: [],
        )  # fmt: skip
        state.objective.train()
        since = time.perf_counter()
        for batch in loader.epoch(0):
            journal.step(state, batch.index, step(batch, 0.01), 0.01)
            now = time.perf_counter()
            yield now - since
            since = now
        state.step = 0
        journal.close()

    return run


def plain(pixels: np.ndarray, labels: np.ndarray, order: list[np.ndarray], arch: str) -> Callable[[], Iterator[float]]:
    """The same arithmetic, written down straight."""
    torch.manual_seed(0)
    student, teacher = network(arch), network(arch).eval().requires_grad_(False)
    hashes, augment = functions(student.num_features), Augment()  # type: ignore[arg-type]
    optimizer = torch.optim.SGD(student.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-5)

    def step(images: Tensor, target: Tensor) -> Tensor:
        feature_s, logits = student(images)
        with torch.no_grad():
            feature_t, _ = teacher(images)
        h_s, h_t = F.linear(torch.cat([feature_s, feature_t]), hashes.weights, hashes.bias).chunk(2)
        lsh = F.binary_cross_entropy_with_logits(h_s, (h_t > 0).float())
        loss: Tensor = F.binary_cross_entropy_with_logits(logits, target) + lsh + F.mse_loss(feature_s, feature_t)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    def run() -> Iterator[float]:
        student.train()
        since = time.perf_counter()
        for index in order:
            sent = augment(torch.from_numpy(pixels[index]), torch.from_numpy(index), seed=0, epoch=0)
            images = normalise(sent, MEAN, STD, channels_last=True)
            step(images, (torch.from_numpy(labels[index]) >= 0).float())
            now = time.perf_counter()
            yield now - since
            since = now

    return run


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("steps", 40), ("size", 32), ("batch", 32)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--arch", default="resnet8")
    asked = parser.parse_args()
    keep_freed_memory()  # as training has it; the plain loop gains as much
    split = Shapes(num_train=asked.batch * asked.steps).split("train")
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(split.images, asked.size, Path(folder), name="a", workers=0, report=lambda *_: None)
        view = View(MEAN, STD, Augment(), channels_last=True)
        loader = Loader(
            StoredPixels(store), split.labels, batch_size=asked.batch, device=torch.device("cpu"), view=view,
            shuffle=True, drop_last=True,
        )  # fmt: skip
        order = np.array_split(loader.order(0), asked.steps)
        arms = {
            "tool": tool(loader, asked.arch)(),
            "plain": plain(np.asarray(store.pixels), split.labels, order, asked.arch)(),
        }
        seconds: dict[str, list[float]] = {name: [] for name in arms}
        for number in range(asked.steps):
            for name, steps in list(arms.items())[:: 1 if number % 2 else -1]:
                began = time.process_time()
                next(steps)
                seconds[name].append(time.process_time() - began)
    medians = {name: statistics.median(times[5:]) for name, times in seconds.items()}
    ratios = [p / t for p, t in zip(seconds["plain"][5:], seconds["tool"][5:], strict=True)]
    print(
        json.dumps(
            {name: round(1e3 * median, 2) for name, median in medians.items()}
            | {"ratio": round(medians["plain"] / medians["tool"], 3), "of pairs": round(statistics.median(ratios), 3)}
        )
    )


if __name__ == "__main__":
    main()
