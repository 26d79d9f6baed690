"""Learning from labels alone."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import nn

from lshfm.device import autocast
from lshfm.models.freeze import apply_freeze, set_train_mode


class LabelledBatch(Protocol):
    """What this objective reads of a batch."""

    @property
    def images(self) -> torch.Tensor: ...  # (B, 3, S, S) float32
    @property
    def labels(self) -> torch.Tensor: ...  # (B, C) int8 in {-1, 0, 1}


class Supervised(nn.Module):
    """A classifier and its label loss; a difficult label (0) counts as positive in training.

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
        super().__init__()
        self.model, self.loss, self.name = model, loss, name
        self.frozen, self.precision = tuple(freeze), precision
        apply_freeze(model, self.frozen)

    def train(self, mode: bool = True) -> "Supervised":
        """Switch to training, but for what is frozen."""
        super().train(mode)
        if mode:
            set_train_mode(self.model, self.frozen)
        return self

    def forward(self, batch: LabelledBatch) -> dict[str, torch.Tensor]:
        """Named losses of a batch, fp32 scalars."""
        with autocast(batch.images.device, self.precision):
            _, logits = self.model(batch.images)
        return {self.name: self.loss(logits.float(), (batch.labels >= 0).float())}
