"""Losses of multi-label classification: logits (B, C) and labels (B, C) to a scalar.

Labels are int8: 1 present, 0 only difficult objects of the class, -1 absent.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lshfm.checks import is_number
from lshfm.errors import InputError

REDUCTIONS = ("mean", "sum")


def targets(labels: Tensor) -> Tensor:
    """Labels (B, C) to fp32 targets in {0, 1}: a difficult label counts as positive in training."""
    assert labels.dtype == torch.int8, "of targets in {0, 1} every one would count as positive"
    return (labels >= 0).float()


class BCE(nn.Module):
    """Binary cross entropy with logits, mean over all B*C entries."""

    name = "bce"

    def __init__(self) -> None:  # nn.Module's own signature would take any setting
        super().__init__()

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, targets(labels))


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
