"""Losses between logits softened by a temperature: student's and teacher's (B, C) to a scalar.

Both carry the factor T^2, which keeps the size of the gradient about the same for every T. Value and gradient are
finite for logits up to 1e4 in size. Both raise InputError unless the temperature is a finite number above 0.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lshfm.checks import is_number
from lshfm.errors import InputError, parameter


class KL(nn.Module):
    """T^2 / B * sum KL(softmax(z_t/T) || softmax(z_s/T)) (Hinton et al. 2015, arXiv 1503.02531, section 2).

    A sum over classes, unlike SigmoidKL: as published, and made for labels that exclude each other.
    """

    def __init__(self, temperature: float = 4.0) -> None:
        super().__init__()
        self.temperature = checked_temperature(temperature)

    def forward(self, logits_s: Tensor, logits_t: Tensor) -> Tensor:
        assert logits_s.shape == logits_t.shape, "broadcasting would hide a mistake"
        log_s = F.log_softmax(logits_s / self.temperature, dim=1)
        log_t = F.log_softmax(logits_t / self.temperature, dim=1)
        # Targets as logarithms: the logarithm of a probability that rounds to 0 would be infinite.
        return self.temperature**2 * F.kl_div(log_s, log_t, log_target=True, reduction="batchmean")


class SigmoidKL(nn.Module):
    """T^2 times the binary KL between sigmoid(z_t/T) and sigmoid(z_s/T), a class at a time.

    Made for multi-label data. The mean is over all B*C entries, so that its size compares with the BCE's: with
    T = 1 and a teacher that is certain it is the BCE against the teacher's answers.
    """

    def __init__(self, temperature: float = 4.0) -> None:
        super().__init__()
        self.temperature = checked_temperature(temperature)

    def forward(self, logits_s: Tensor, logits_t: Tensor) -> Tensor:
        assert logits_s.shape == logits_t.shape, "broadcasting would hide a mistake"
        soft_s, soft_t = logits_s / self.temperature, logits_t / self.temperature
        return self.temperature**2 * (_half(soft_s, soft_t) + _half(-soft_s, -soft_t)).mean()


def _half(logits_s: Tensor, logits_t: Tensor) -> Tensor:
    """p_t log(p_t / p_s) for one of the two outcomes; never log(p), as p may round to 0."""
    return torch.sigmoid(logits_t) * (F.logsigmoid(logits_t) - F.logsigmoid(logits_s))


def checked_temperature(value: object) -> float:
    """`value` as a temperature. Raises InputError unless it is a finite number above 0."""
    largest = torch.finfo(torch.float32).max
    if not is_number(value) or not 0 < value <= largest:
        name = parameter("temperature")
        raise InputError(f"{name}={value!r} must be a finite number above 0; 4 is the published one")
    return float(value)
