"""A task of a user's own: the mean colour of an image, regressed. All of it lies here and in conf/ beside this file."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch.nn.functional as F
from rich.console import RenderableType
from torch import Tensor, nn

from lshfm.config.groups import Dataset
from lshfm.datasets.loader import Loader
from lshfm.datasets.shapes import Shapes
from lshfm.datasets.split import Split
from lshfm.engine.evaluate import predict
from lshfm.engine.state import Evaluation
from lshfm.ranks.group import on_main
from lshfm.tasks.images import ImageTask
from lshfm.tasks.task import Arrays, Evaluate, FileWriter


class Colours:
    """The embedded shapes, with each picture's mean red, green and blue in [0, 1] as its label."""

    def __init__(self, num_train: int, num_eval: int) -> None:
        self.shapes = Shapes(num_train=num_train, num_eval=num_eval)

    def split(self, name: str) -> Split:
        """Labels float32 (n, 3)."""
        split = self.shapes.split(name)
        means = [split.images.pixels(i, 32).mean((0, 1)) / 255 for i in range(len(split))]
        return replace(split, classes=("red", "green", "blue"), labels=np.array(means, np.float32))


class SquaredError(nn.Module):
    """Mean squared error of outputs (B, 3)."""

    def forward(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return F.mse_loss(outputs, labels)


class MeanColour(ImageTask):
    """Labels are float32 (n, 3), outputs (B, 3)."""

    stages = ("1", "2")
    metrics = ("r2",)
    score = "R2"

    def describe(self, split: Split, used: int, purpose: str) -> str:
        """Images and their mean colour."""
        return f"{purpose} {split.name}: {used} images of mean colour {split.labels.mean(0).round(2)}"

    def evaluator(
        self, loader: Loader, split: Split, metric: str, precision: str, *, features: bool = False
    ) -> Evaluate:
        """Share of the variance that is explained, in percent."""

        def evaluate(network: nn.Module) -> tuple[Evaluation, Arrays]:
            found = predict(network, loader.epoch(0), precision=precision, features=features)

            def measured() -> Evaluation:
                assert found
                left = ((found.logits - found.labels) ** 2).sum(0)
                there = ((found.labels - found.labels.mean(0)) ** 2).sum(0)
                report = {"R2": float(100 * (1 - left / there).mean()), "images": len(found.index)}
                return Evaluation("R2", report["R2"], report)

            evaluation = on_main(measured)
            if found is None:
                return evaluation, {}
            arrays = {"ids": np.array([split.ids[i] for i in found.index]), "outputs": found.logits}
            arrays["targets"] = found.labels
            return evaluation, arrays if found.features is None else arrays | {"features": found.features}

        return evaluate

    def chance(self, arrays: Arrays) -> float | None:
        """The mean of the targets explains nothing."""
        return 0.0

    def tables(self, report: dict[str, Any]) -> RenderableType:
        """One line."""
        return f"R2 {report['R2']:.2f} % on {report['images']} images"

    def file_writer(self, dataset: Dataset, split: Split) -> FileWriter | None:
        """A line an image."""
        assert isinstance(split.ids, Sequence)

        def write(folder: Any, arrays: Arrays, saw_no_others: bool) -> None:
            rows = zip(arrays["ids"], arrays["outputs"].tolist(), strict=True)
            (folder / "colours.txt").write_text("".join(f"{id_} {colour}\n" for id_, colour in rows))

        return write
