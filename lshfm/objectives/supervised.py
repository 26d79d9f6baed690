"""Learning from labels alone; and what every objective shares."""

from collections.abc import Sequence
from typing import Protocol, Self

import torch
from torch import nn

from lshfm.models.freeze import apply_freeze, set_train_mode
from lshfm.ranks.device import autocast


class ImageBatch(Protocol):
    """What every objective reads of a batch."""

    @property
    def images(self) -> torch.Tensor: ...  # (B, 3, S, S) float32


class LabelledBatch(ImageBatch, Protocol):
    """What an objective with labels reads of a batch."""

    @property
    def labels(self) -> torch.Tensor: ...  # (B, C) int8 in {-1, 0, 1}


def targets(labels: torch.Tensor) -> torch.Tensor:
    """Labels (B, C) in {-1, 0, 1} to fp32 targets: a difficult label (0) counts as positive in training."""
    return (labels >= 0).float()


class Learner(nn.Module):
    """A network in training, the precision of its arithmetic, and what of it does not learn.

    freeze: names as in models.freeze. Raises InputError as apply_freeze does. `trained` is what `forward` runs of
    the network, `model` itself unless a subclass says otherwise: several ranks put a wrapper around it.
    """

    def __init__(self, model: nn.Module, freeze: Sequence[str], precision: str) -> None:
        super().__init__()
        self.model = model
        self.trained = model
        self.frozen, self.precision = tuple(freeze), precision
        apply_freeze(model, self.frozen)

    def train(self, mode: bool = True) -> Self:
        """Switch to training, but for what is frozen."""
        super().train(mode)
        if mode:
            set_train_mode(self.model, self.frozen)
        return self


class Supervised(Learner):
    """A classifier and its label loss.

    freeze: names as in models.freeze, of what does not learn.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: nn.Module,
        name: str,
        *,
        freeze: Sequence[str] = (),
        precision: str = "fp32",
    ) -> None:
        super().__init__(model, freeze, precision)
        self.loss, self.name = loss, name

    def forward(self, batch: LabelledBatch) -> dict[str, torch.Tensor]:
        """Named losses of a batch, fp32 scalars."""
        with autocast(batch.images.device, self.precision):
            _, logits = self.trained(batch.images)
        return {self.name: self.loss(logits.float(), targets(batch.labels))}
