"""Weighted losses between a student's and a teacher's tensors, under the names they are logged by."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from lshfm.ranks.device import autocast


@dataclass(frozen=True)
class Term:
    """One loss of (student, teacher), its factor, and its name in the log."""

    name: str
    weight: float
    loss: nn.Module


def add_up(named: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """The losses by name, in the order they came; those of equal names are summed, so that none gets lost."""
    total: dict[str, Tensor] = {}
    for name, loss in named:
        total[name] = total[name] + loss if name in total else loss
    return total


class Terms(nn.Module):
    """A sum of losses, each with its factor and its name (arXiv 2011.01424, section 3: beta * L_kd)."""

    def __init__(self, terms: Sequence[Term]) -> None:
        super().__init__()
        self.names = [term.name for term in terms]
        self.weights = [term.weight for term in terms]
        self.losses = nn.ModuleList(term.loss for term in terms)

    def forward(self, student: Tensor, teacher: Tensor) -> dict[str, Tensor]:
        """Features (B, D) or logits (B, C) of both to weighted fp32 scalars by name, whatever their precision."""
        student, teacher = student.float(), teacher.float()
        terms = zip(self.names, self.weights, self.losses, strict=True)
        with autocast(student.device, "fp32"):
            return add_up((name, weight * loss(student, teacher)) for name, weight, loss in terms)
