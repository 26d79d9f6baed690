"""Stage 1: the student's projection learns to give the teacher's features, with no labels."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lshfm.errors import InputError, parameter
from lshfm.objectives.learner import ImageBatch, Learner
from lshfm.objectives.teacher import Recorded, Teacher
from lshfm.objectives.terms import Terms
from lshfm.ranks.device import autocast


class Projected(nn.Module):
    """Maps images to a network's feature, with gradients for its projection alone."""

    network: Any  # an nn.Module with raw_feature and projection

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> feature (B, D)."""
        # The same statistics and projection, bit for bit, as with gradients through the frozen backbone.
        with torch.no_grad():
            raw = self.network.raw_feature(images)
        feature: Tensor = self.network.projection(raw)
        return feature


class Align(Learner):
    """Only `model.projection` learns, from the losses between features (arXiv 2011.01424, section 3).

    The backbone's BatchNorm layers are in train mode all the same, so that their running statistics adapt to the
    data set; `freeze` with bn_stats stops that, its other names change nothing here.
    Raises InputError for a network without a projection, or without `raw_feature`, and as apply_freeze does.
    """

    def __init__(
        self,
        model: nn.Module,
        teacher: Teacher | Recorded,
        terms: Terms,
        *,
        freeze: Sequence[str] = (),
        precision: str = "fp32",
    ) -> None:
        projection = _projection(model, teacher.num_features)
        super().__init__(model, freeze, precision)
        self.teacher, self.terms = teacher, terms
        model.requires_grad_(False)
        projection.requires_grad_(True)
        self.trained = Projected(model)

    def wrap_frozen(self, wrap: Callable[[nn.Module], nn.Module]) -> None:
        """The teacher's network, in steps alone."""
        self.teacher.wrap(wrap)

    def forward(self, batch: ImageBatch) -> dict[str, Tensor]:
        """Named losses of a batch, fp32 scalars; its labels are not read."""
        with autocast(batch.images.device, self.precision):
            feature_s = self.trained(batch.images)
        feature_t, _ = self.teacher(batch)
        losses: dict[str, Tensor] = self.terms(feature_s, feature_t)
        return losses


def _projection(model: nn.Module, width: int) -> nn.Module:
    projection, name = getattr(model, "projection", None), getattr(model, "arch", type(model).__name__)
    if not isinstance(projection, nn.Module):
        raise InputError(
            f"stage 1 trains the student's projection alone, but {name} has none, so there is nothing to align: "
            f"{parameter('projection')}={width} gives it one of the teacher's width; or run stage 2 alone"
        )
    if not callable(getattr(model, "raw_feature", None)):
        raise InputError(
            f"stage 1 needs {type(model).__name__} to have a method raw_feature(images) that gives what its "
            "projection is applied to: add it"
        )
    return projection
