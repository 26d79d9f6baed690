"""Feature losses over the images that the teacher gets right (arXiv 2011.01424, its single-label code).

Features (B, D) of both and a weight for each image (B,) to a scalar, the weighted sum over the images. Weights are
[argmax z_t = y] / M, M being the number of such images over all ranks: a mean over them, and 0 where there are none.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lshfm.errors import InputError, parameter
from lshfm.losses.lsh import LSH, HashFunctions


class CorrectL2(nn.Module):
    """Squared difference, mean over the feature: sum_i w_i / D * |f_s,i - f_t,i|^2."""

    def __init__(self) -> None:
        super().__init__()

    def forward(self, feature_s: Tensor, feature_t: Tensor, weights: Tensor) -> Tensor:
        assert feature_s.shape == feature_t.shape, "broadcasting would hide a mistake"
        return (weights * (feature_s - feature_t.detach()).square().mean(1)).sum()


class CorrectLSH(LSH):
    """Hash bits, mean over the functions: sum_i w_i / N * sum_n BCE(h_s,in, [h_t,in > 0]); fp32 as LSH.

    Raises InputError for another form than bce, the only published one.
    """

    def __init__(self, functions: HashFunctions, form: str = "bce") -> None:
        if form != "bce":
            raise InputError(f"{parameter('form')}={form}: losses over the teacher's right answers compare bits: bce")
        super().__init__(functions, form)

    def forward(self, feature_s: Tensor, feature_t: Tensor, weights: Tensor) -> Tensor:  # type: ignore[override]
        assert feature_s.shape == feature_t.shape, "broadcasting would hide a mistake"
        with torch.autocast(feature_s.device.type, enabled=False):
            both = torch.cat([feature_s.float(), feature_t.detach().float()])
            h_s, h_t = F.linear(both, self.weights, self.bias).chunk(2)  # (B, N)
            entries = F.binary_cross_entropy_with_logits(h_s, (h_t > 0).float(), reduction="none")
            return (weights.float() * entries.mean(1)).sum()
