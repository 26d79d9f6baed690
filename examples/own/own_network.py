"""A network of one's own that can be model, teacher and, with a projection, student."""

import torch
from torch import Tensor, nn


class Tiny(nn.Module):
    """Two convolutions, a projection to `projection` numbers where one is asked for, and a classifier."""

    def __init__(self, num_classes: int, width: int, projection: int | None = None) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        self.num_features = projection or width
        self.projection = nn.Linear(width, projection) if projection else None
        self.classifier = nn.Linear(self.num_features, num_classes)

    def raw_feature(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, width), what a projection is applied to."""
        return torch.flatten(self.body(images).mean((2, 3)), 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) -> feature (B, num_features), logits (B, num_classes)."""
        raw = self.raw_feature(images)
        feature = raw if self.projection is None else self.projection(raw)
        return feature, self.classifier(feature)
