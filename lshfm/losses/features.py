"""Losses between features: student's and teacher's (B, D) to a scalar, mean over all B*D entries."""

import torch.nn.functional as F
from torch import Tensor, nn


class L1(nn.Module):
    """Mean absolute difference."""

    def __init__(self) -> None:  # nn.Module's own signature would take any setting
        super().__init__()

    def forward(self, feature_s: Tensor, feature_t: Tensor) -> Tensor:
        assert feature_s.shape == feature_t.shape, "broadcasting would hide a mistake"
        return F.l1_loss(feature_s, feature_t)


class L2(nn.Module):
    """Mean squared difference (arXiv 2011.01424, section 3)."""

    def __init__(self) -> None:
        super().__init__()

    def forward(self, feature_s: Tensor, feature_t: Tensor) -> Tensor:
        assert feature_s.shape == feature_t.shape, "broadcasting would hide a mistake"
        return F.mse_loss(feature_s, feature_t)
