"""The network of the samples: small, so that they are."""

import torch
from torch import Tensor, nn


class Tiny(nn.Module):
    """One convolution, BatchNorm, and a classifier."""

    num_features = 4

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, stride=4), nn.BatchNorm2d(4), nn.ReLU())
        self.classifier = nn.Linear(4, num_classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) -> feature (B, 4), logits (B, C)."""
        feature = torch.flatten(self.body(images).mean((2, 3)), 1)
        return feature, self.classifier(feature)
