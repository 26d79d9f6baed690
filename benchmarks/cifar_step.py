"""Training of a small network on one label an image beside a plain PyTorch loop of the same arithmetic, on a CPU.

    python benchmarks/cifar_step.py [--steps 40] [--batch 64] [--arch resnet20]

Pictures of CIFAR's size lie in memory. Both pad, crop back, flip, normalise, and step: cross entropy, SGD with momentum
and weight decay; the tool with its loader and its journal. The arms take turns, with CPU seconds of a step each: so a
loaded machine disturbs both alike. 1 is the plain loop's speed.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lshfm.datasets.augment import Augment, normalise
from lshfm.datasets.in_memory import ArrayPixels
from lshfm.datasets.loader import Loader, View
from lshfm.engine.assemble import assemble
from lshfm.engine.journal import Journal
from lshfm.engine.step import make_step
from lshfm.losses.single_label import CE
from lshfm.models.cifar import cifar_classifier
from lshfm.objectives.supervised import Supervised
from lshfm.ranks.allocator import keep_freed_memory

MEAN, STD, CLASSES = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761), 100
AUGMENT = Augment(0.5, 0.0, 0.0, 0.0, 4)


class Silent:
    """Lines that go nowhere."""

    def write(self, line: object) -> None: ...
    def forget_after(self, epochs_done: int, steps_done: int) -> None: ...


def network(arch: str) -> nn.Module:
    """In the memory order that the tool uses."""
    torch.manual_seed(0)
    return cifar_classifier(arch, CLASSES).to(memory_format=torch.channels_last)


def tool(loader: Loader, arch: str) -> Iterator[None]:
    """Steps of the tool."""
    objective = Supervised(network(arch), CE(), "ce")
    state = assemble(objective, optimizer="sgd", momentum=0.9, weight_decay=5e-4)
    step = make_step(state)
    journal = Journal(Silent(), epochs=10**6, steps=len(loader), every=50, name_samples=lambda _: [])
    state.objective.train()
    for batch in loader.epoch(0):
        journal.step(state, batch.index, step(batch, 0.05), 0.05)
        yield
    journal.close()


def plain(pixels: np.ndarray, labels: np.ndarray, order: list[np.ndarray], arch: str) -> Iterator[None]:
    """The same arithmetic, written down straight."""
    model = network(arch).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    for index in order:
        seen = AUGMENT(torch.from_numpy(pixels[index]), torch.from_numpy(index), seed=0, epoch=0)
        logits = model(normalise(seen, MEAN, STD, channels_last=True))[1]
        loss = F.cross_entropy(logits, torch.from_numpy(labels[index]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield


def seconds_of(arms: dict[str, Iterator[None]], steps: int, clock: Callable[[], float]) -> dict[str, list[float]]:
    """Of each arm's steps, which take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for number in range(steps):
        for name, run in list(arms.items())[:: 1 if number % 2 else -1]:
            began = clock()
            next(run)
            seconds[name].append(clock() - began)
    return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("steps", 40), ("batch", 64)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--arch", default="resnet20")
    asked = parser.parse_args()
    keep_freed_memory()  # as training has it; the plain loop gains as much
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (asked.batch * asked.steps, 32, 32, 3), np.uint8)
    labels = random.integers(0, CLASSES, len(pixels))
    loader = Loader(
        ArrayPixels(pixels), labels, batch_size=asked.batch, device=torch.device("cpu"),
        view=View(MEAN, STD, AUGMENT, channels_last=True), shuffle=True, drop_last=True,
    )  # fmt: skip
    order = np.array_split(loader.order(0), asked.steps)
    arms = {"tool": tool(loader, asked.arch), "plain": plain(pixels, labels, order, asked.arch)}
    seconds = {name: times[5:] for name, times in seconds_of(arms, asked.steps, time.process_time).items()}
    ratios = [p / t for p, t in zip(seconds["plain"], seconds["tool"], strict=True)]
    medians = {f"{name} ms": round(1e3 * statistics.median(times), 2) for name, times in seconds.items()}
    total = sum(seconds["plain"]) / sum(seconds["tool"])
    print(json.dumps(medians | {"ratio of pairs": round(statistics.median(ratios), 3), "of sums": round(total, 3)}))


if __name__ == "__main__":
    main()
