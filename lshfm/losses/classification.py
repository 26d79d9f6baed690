"""Losses of multi-label classification: logits (B, C) and labels (B, C) to a scalar.

Labels are int8: 1 present, 0 only difficult objects of the class, -1 absent.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lshfm.checks import class_weights, fraction, is_number, require_one_a_class
from lshfm.errors import InputError, parameter

REDUCTIONS = ("mean", "sum")


def targets(labels: Tensor) -> Tensor:
    """Labels (B, C) to fp32 targets in {0, 1}: a difficult label counts as positive in training."""
    assert labels.dtype == torch.int8, "of targets in {0, 1} every one would count as positive"
    return (labels >= 0).float()


class BCE(nn.Module):
    """Binary cross entropy with logits, mean over all B*C entries.

    pos_weight: factors of the positive targets' part, one a class, or "auto": negatives / positives among the training
    labels, 1 for a class that lacks either; the loss then runs only after `set_up`. label_smoothing: share s by which
    targets y are smoothed to (1 - s) y + s / 2. Raises InputError for weights that are not finite numbers above 0, and
    for a share that is not from 0 to below 1.
    """

    name = "bce"
    weights: Tensor | None  # (C,) float32

    def __init__(self, pos_weight: Sequence[float] | str | None = None, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.pos_weight = class_weights(parameter("pos_weight"), pos_weight)
        self.label_smoothing = fraction(parameter("label_smoothing"), label_smoothing)
        known = torch.tensor(self.pos_weight) if isinstance(self.pos_weight, list) else None
        self.register_buffer("weights", known, persistent=False)

    def set_up(self, labels: Tensor) -> None:
        """Take `auto` weights from the training labels (n, C). Raises InputError for weights of other classes."""
        if self.pos_weight == "auto":
            self.weights = _negatives_a_positive(targets(labels))
        if self.weights is not None:
            require_one_a_class(parameter("pos_weight"), self.weights, labels.shape[1])

    @property
    def counted(self) -> dict[str, list[float]]:
        """The keys whose values came from labels, with these values: an evaluation has no training labels."""
        return {"pos_weight": self.weights.tolist()} if self.pos_weight == "auto" and self.weights is not None else {}

    def extra_repr(self) -> str:
        """Whatever was asked for beyond the plain loss."""
        smoothed = [f"label_smoothing={self.label_smoothing:g}"] if self.label_smoothing else []
        if self.weights is None:
            return ", ".join(smoothed)
        low, high = self.weights.min(), self.weights.max()
        return ", ".join([f"pos_weight of {len(self.weights)} classes from {low:.3g} to {high:.3g}", *smoothed])

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        assert self.pos_weight != "auto" or self.weights is not None, "set_up comes first"
        target = targets(labels)
        if self.label_smoothing:
            target = (1 - self.label_smoothing) * target + self.label_smoothing / 2
        return F.binary_cross_entropy_with_logits(logits, target, pos_weight=self.weights)


def _negatives_a_positive(target: Tensor) -> Tensor:
    """How many negatives a class has for each positive, of targets (n, C); 1 where it has none of one of them."""
    positives = target.double().sum(0)  # (C,), exact
    negatives = len(target) - positives
    there = (positives > 0) & (negatives > 0)
    return torch.where(there, negatives / positives.clamp(min=1), 1.0).float()


class ASL(nn.Module):
    """Asymmetric loss (Ridnik et al. 2021, arXiv 2009.14119, section 2): easy negatives weigh little or none.

    With p = sigmoid(logit) and p_m = max(p - clip, 0), an entry costs -(1 - p)^gamma_pos log p where the
    target is 1 and -p_m^gamma_neg log(1 - p_m) where it is 0. Gradients flow through the focusing weights
    too. The mean is over all B*C entries; "sum" is what the authors' code does, and asks for a learning rate
    smaller by about B*C. Value and gradient are finite for logits up to 1e4 in size. With both gammas and
    clip 0 it is the BCE.

    Raises InputError unless both gammas are finite and >= 0, 0 <= clip < 1, and reduction is "mean" or "sum".
    """

    name = "asl"

    def __init__(
        self, gamma_neg: float = 4.0, gamma_pos: float = 0.0, clip: float = 0.05, reduction: str = "mean"
    ) -> None:
        super().__init__()
        # Beyond fp32's range a gamma would be infinite inside the kernels.
        largest = torch.finfo(torch.float32).max
        self.gamma_neg = _number("gamma_neg", gamma_neg, largest, "a finite number >= 0")
        self.gamma_pos = _number("gamma_pos", gamma_pos, largest, "a finite number >= 0")
        self.clip = _number("clip", clip, 1.0, "a number with 0 <= clip < 1")
        if reduction not in REDUCTIONS:
            raise InputError(f"loss asl: reduction must be one of {', '.join(REDUCTIONS)}, not {reduction!r}")
        self.reduction = reduction

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        assert logits.shape == labels.shape, "broadcasting would hide a mistake"
        target = targets(labels)
        entries = target * self._positive(logits) + (1 - target) * self._negative(logits)
        return entries.mean() if self.reduction == "mean" else entries.sum()

    def _positive(self, logits: Tensor) -> Tensor:
        return -torch.exp(self.gamma_pos * F.logsigmoid(-logits)) * F.logsigmoid(logits)

    def _negative(self, logits: Tensor) -> Tensor:
        # Not 0 but the smallest normal number: 0^(gamma-1) in the gradient is infinite for gamma < 1. No
        # gradient passes the clamp, so a discarded negative stays discarded.
        p_m = (torch.sigmoid(logits) - self.clip).clamp(min=torch.finfo(logits.dtype).tiny)
        return -(p_m**self.gamma_neg) * self._log_one_minus(p_m, logits)

    def _log_one_minus(self, p_m: Tensor, logits: Tensor) -> Tensor:
        """log(1 - p_m) = log(sigmoid(-logit) + clip): each form is exact where the other one cancels."""
        log_clip = logits.new_full((), math.log(self.clip) if self.clip else -math.inf)
        near_one = torch.logaddexp(F.logsigmoid(-logits), log_clip)
        return torch.where(p_m < 0.5, torch.log1p(-p_m.clamp(max=0.5)), near_one)


class Summed(nn.Module):
    """A summing loss times `parts`: a step averages the losses of a batch's parts, which then gives the batch's sum."""

    def __init__(self, loss: nn.Module, parts: int) -> None:
        super().__init__()
        self.loss, self.parts = loss, parts

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        total: Tensor = self.parts * self.loss(logits, labels)
        return total


def _number(name: str, value: object, below: float, wanted: str) -> float:
    """`value` as a float if it is a number in [0, below), which nan is not; InputError otherwise."""
    if not is_number(value) or not 0 <= value < below:
        raise InputError(f"loss asl: {name} must be {wanted}, not {value!r}")
    return float(value)
