"""Weighted losses between a student's and a teacher's tensors, under the names they are logged by."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lshfm.ranks.device import autocast

Given = Tensor | Sequence[Tensor]


@dataclass(frozen=True)
class Term:
    """One loss of (student, teacher, ...), its factor, and its name in the log."""

    name: str
    weight: float
    loss: nn.Module


def add_up(named: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """The losses by name, in the order they came; those of equal names are summed, so that none gets lost."""
    total: dict[str, Tensor] = {}
    for name, loss in named:
        total[name] = total[name] + loss if name in total else loss
    return total


def scaled(loss: Tensor, weight: float) -> Tensor:
    """A loss times its factor, which in most cases is 1."""
    return loss if weight == 1 else weight * loss


class Terms(nn.Module):
    """A sum of losses, each with its factor and its name (arXiv 2011.01424, section 3: beta * L_kd)."""

    def __init__(self, terms: Sequence[Term]) -> None:
        super().__init__()
        self.names = [term.name for term in terms]
        self.weights = [term.weight for term in terms]
        self.losses = nn.ModuleList(term.loss for term in terms)

    def forward(self, student: Given, teacher: Given, *more: Given) -> dict[str, Tensor]:
        """Features (B, D), logits (B, C) or lists of maps of both, to weighted fp32 scalars by name.

        more: what these losses take beside, passed on as it is. Whatever the networks' precision, losses are fp32.
        """
        if not self.names:
            return {}
        both = _float(student), _float(teacher)
        terms = zip(self.names, self.weights, self.losses, strict=True)
        with autocast(_device(student), "fp32"):
            return add_up((name, scaled(loss(*both, *more), weight)) for name, weight, loss in terms)


def _float(given: Given) -> Given:
    return given.float() if isinstance(given, Tensor) else [each.float() for each in given]


def _device(given: Given) -> torch.device:
    return given.device if isinstance(given, Tensor) else given[0].device
