"""A mimicking loss of one's own: how far the student's features point away from the teacher's."""

import torch.nn.functional as F
from torch import Tensor, nn


class Cosine(nn.Module):
    """1 - cosine of student's and teacher's features (B, D), mean over the images."""

    def forward(self, feature_s: Tensor, feature_t: Tensor) -> Tensor:
        return 1 - F.cosine_similarity(feature_s, feature_t).mean()
