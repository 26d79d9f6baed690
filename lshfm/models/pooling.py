"""From the backbone's map (B, D, h, w) to one vector an image (B, D).

Reductions rather than adaptive pooling: the same numbers, and their CUDA gradients are deterministic.
"""

from torch import Tensor, nn

from lshfm.checks import pick
from lshfm.errors import parameter


class GAP(nn.Module):
    """Global average pooling."""

    def forward(self, features: Tensor) -> Tensor:
        return features.mean(dim=(2, 3))


class GMP(nn.Module):
    """Global maximum pooling."""

    def forward(self, features: Tensor) -> Tensor:
        return features.amax(dim=(2, 3))


class GWP(nn.Module):
    """The mean of average and maximum pooling."""

    def forward(self, features: Tensor) -> Tensor:
        return (features.mean(dim=(2, 3)) + features.amax(dim=(2, 3))) / 2


POOLING: dict[str, type[nn.Module]] = {"GAP": GAP, "GMP": GMP, "GWP": GWP}


def pooling(name: str) -> nn.Module:
    """The pooling called `name`; InputError with the choices if there is none."""
    return pick(parameter("pool"), name, POOLING)()
