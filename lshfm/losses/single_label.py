"""Losses of single-label classification: logits (B, C) and labels int64 (B,) to a scalar."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lshfm.checks import class_weights, fraction, require_one_a_class
from lshfm.errors import parameter


class CE(nn.Module):
    """Softmax cross entropy, mean over the batch.

    class_weights: factors of the images of each class, one a class, or "auto": images / (classes x those of the class)
    among the training labels, 1 for a class without any; the loss then runs only after `set_up`. The weighted losses
    are divided by the number of images and not by their weights' sum, so that ranks and parts of a batch add up.
    label_smoothing: share s by which the target is smoothed to 1 - s + s / C, and 0 elsewhere to s / C. Raises
    InputError for weights that are not finite numbers above 0, and for a share that is not from 0 to below 1.
    """

    name = "ce"
    weights: Tensor | None  # (C,) float32

    def __init__(self, class_weights: Sequence[float] | str | None = None, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.class_weights = _checked(class_weights)
        self.label_smoothing = fraction(parameter("label_smoothing"), label_smoothing)
        known = torch.tensor(self.class_weights) if isinstance(self.class_weights, list) else None
        self.register_buffer("weights", known, persistent=False)
        self._num_classes: int | None = None

    def set_up(self, labels: Tensor, num_classes: int) -> None:
        """Take `auto` weights from the training labels (n,). Raises InputError for weights of other classes."""
        if self.class_weights == "auto":
            counts = torch.bincount(labels, minlength=num_classes).double()
            fair = labels.numel() / (num_classes * counts.clamp(min=1))
            self.weights = torch.where(counts > 0, fair, 1.0).float()
        if self.weights is not None:
            require_one_a_class(parameter("class_weights"), self.weights, num_classes)

    @property
    def counted(self) -> dict[str, list[float]]:
        """The keys whose values came from labels, with these values: an evaluation has no training labels."""
        is_counted = self.class_weights == "auto" and self.weights is not None
        return {"class_weights": self.weights.tolist()} if is_counted and self.weights is not None else {}

    def extra_repr(self) -> str:
        """Whatever was asked for beyond the plain loss."""
        smoothed = [f"label_smoothing={self.label_smoothing:g}"] if self.label_smoothing else []
        if self.weights is None:
            return ", ".join(smoothed)
        low, high = self.weights.min(), self.weights.max()
        return ", ".join([f"class_weights of {len(self.weights)} classes from {low:.3g} to {high:.3g}", *smoothed])

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        assert self.class_weights != "auto" or self.weights is not None, "set_up comes first"
        assert labels.dtype == torch.int64, "shares of classes are mixed elsewhere"
        if self.weights is None:
            return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        losses = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing, reduction="none")
        return (self.weights.to(losses)[labels] * losses).mean()


def _checked(value: object) -> list[float] | str | None:
    return class_weights(parameter("class_weights"), value)
