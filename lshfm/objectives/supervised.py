"""The objective of `lshfm train`: a label loss on logits, without a teacher."""

from collections.abc import Sequence

import torch
from torch import nn

from lshfm.objectives.learner import LabelledBatch, Learner, over_labels
from lshfm.ranks.device import autocast


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
        return {self.name: over_labels(batch, lambda labels: self.loss(logits.float(), labels))}
