"""Losses of other ways to distil, for comparisons; softened logits (logit KD) are in losses.logits."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lshfm.checks import is_number
from lshfm.errors import InputError, parameter
from lshfm.losses.logits import checked_temperature

_EPS = 1e-12


class DKD(nn.Module):
    """Decoupled distillation: T^2 (alpha TCKD + beta NCKD) (Zhao et al. 2022, arXiv 2203.08679, equation 7).

    logits_s, logits_t (B, C) and labels int64 (B,) to a scalar, mean over the batch. With b the softened probabilities
    of the target class and of all others together, TCKD = KL(b_t || b_s); with p the softened probabilities among the
    other classes, NCKD = KL(p_t || p_s). No warm-up. Raises InputError for weights below 0.
    """

    def __init__(self, alpha: float = 1.0, beta: float = 8.0, temperature: float = 4.0) -> None:
        super().__init__()
        self.alpha, self.beta = (_weight(name, value) for name, value in (("alpha", alpha), ("beta", beta)))
        self.temperature = checked_temperature(temperature)

    def forward(self, logits_s: Tensor, logits_t: Tensor, labels: Tensor) -> Tensor:
        assert logits_s.shape == logits_t.shape, "broadcasting would hide a mistake"
        (two_s, others_s), (two_t, others_t) = (
            _decoupled(logits / self.temperature, labels[:, None]) for logits in (logits_s, logits_t)
        )
        losses = self.alpha * _kl(two_s, two_t) + self.beta * _kl(others_s, others_t)
        return self.temperature**2 * losses.mean()


def _decoupled(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Logarithms of the probabilities (B, 2) of the target and of the rest, and (B, C - 1) among the rest.

    target: (B, 1). Picked by place, as a mask would make the host wait for a GPU.
    """
    log_p = F.log_softmax(logits, dim=1)
    rest = torch.arange(logits.shape[1] - 1, device=logits.device)
    rest = rest + (rest >= target)  # (B, C - 1)
    without = log_p.scatter(1, target, -torch.inf)
    two = torch.stack([log_p.gather(1, target)[:, 0], torch.logsumexp(without, dim=1)], dim=1)
    return two, F.log_softmax(logits.gather(1, rest), dim=1)


def _kl(log_s: Tensor, log_t: Tensor) -> Tensor:
    """KL(t || s) of each row, (B,)."""
    return F.kl_div(log_s, log_t, log_target=True, reduction="none").sum(1)


class Attention(nn.Module):
    """Attention transfer: where maps are active (Zagoruyko, Komodakis 2017, arXiv 1612.03928, equation 2).

    Maps (B, C_i, h_i, w_i) of both networks' stages to a scalar: the sum over the stages of the mean, over images and
    places, of (a_s - a_t)^2, a being the mean over the channels of the squared map, scaled to length 1: the squared
    distance, as in the authors' code. The larger of two maps is averaged down to the size of the other. Raises
    InputError for different numbers of stages.
    """

    def __init__(self) -> None:
        super().__init__()

    def forward(self, maps_s: Sequence[Tensor], maps_t: Sequence[Tensor]) -> Tensor:
        _require_stages(maps_s, maps_t)
        pairs = (_same_size(s, t) for s, t in zip(maps_s, maps_t, strict=True))
        return torch.stack([(_attention(s) - _attention(t)).square().mean() for s, t in pairs]).sum()


def _attention(maps: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h * w) of length 1."""
    return F.normalize(maps.square().mean(1).flatten(1), dim=1, eps=_EPS)


class Hint(nn.Module):
    """FitNet's hint without its regressor: mean squared difference of a stage's maps (Romero et al. 2015, 1412.6550).

    Maps (B, C_i, h_i, w_i) of both networks' stages to a scalar. stage: which pair, from 0. The larger map is averaged
    down. Raises InputError for a stage that is not there, and for maps of different channels, which a trained
    regressor would have to bridge.
    """

    def __init__(self, stage: int = 1) -> None:
        super().__init__()
        self.stage = stage

    def forward(self, maps_s: Sequence[Tensor], maps_t: Sequence[Tensor]) -> Tensor:
        """The mean squared difference of the chosen stage's maps, a scalar. Raises InputError as above."""
        _require_stages(maps_s, maps_t)
        name = parameter("stage")
        if not 0 <= self.stage < len(maps_s):
            raise InputError(f"{name}={self.stage}: the networks have stages 0 to {len(maps_s) - 1}")
        one, other = _same_size(maps_s[self.stage], maps_t[self.stage])
        if one.shape != other.shape:
            raise InputError(
                f"the hint compares maps of equal channels, and stage {self.stage} has {one.shape[1]} in the student "
                f"and {other.shape[1]} in the teacher: loss=at compares any maps"
            )
        return F.mse_loss(one, other)


def _require_stages(maps_s: Sequence[Tensor], maps_t: Sequence[Tensor]) -> None:
    if len(maps_s) != len(maps_t):
        raise InputError(
            f"the student has {len(maps_s)} stages and the teacher {len(maps_t)}: their maps cannot be paired; take "
            "another loss or network"
        )


def _same_size(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    side = min(one.shape[-1], other.shape[-1])
    sized = [each if each.shape[-1] == side else F.adaptive_avg_pool2d(each, side) for each in (one, other)]
    return sized[0], sized[1]


class RKD(nn.Module):
    """Relations between a batch's features: distances and angles (Park et al. 2019, arXiv 1904.05068, equations 4-8).

    Features (B, D_s) and (B, D_t), of any widths, to `distance` * RKD-D + `angle` * RKD-A, each the mean Huber loss
    over all pairs or triples: |f_i - f_j| by its mean over the pairs that differ, cosines of the angles at f_j. Of
    several ranks each relates its own images. Raises InputError for weights below 0.
    """

    def __init__(self, distance: float = 25.0, angle: float = 50.0) -> None:
        super().__init__()
        self.distance, self.angle = (_weight(name, v) for name, v in (("distance", distance), ("angle", angle)))

    def forward(self, feature_s: Tensor, feature_t: Tensor) -> Tensor:
        assert len(feature_s) == len(feature_t), "both see the same images"
        feature_t = feature_t.detach()
        far = F.smooth_l1_loss(_distances(feature_s), _distances(feature_t))
        turned = F.smooth_l1_loss(_cosines(feature_s), _cosines(feature_t))
        return self.distance * far + self.angle * turned


def _distances(feature: Tensor) -> Tensor:
    """(B, B), 0 on the diagonal, of mean 1 beside it; all 0 where the features are one."""
    squares = (feature[:, None] - feature[None]).square().sum(2)
    is_apart = squares > 0
    lengths = torch.where(is_apart, squares, 1.0).sqrt() * is_apart  # sqrt has no slope at 0
    return lengths / (lengths.sum() / is_apart.sum().clamp(min=1)).clamp(min=_EPS)


def _cosines(feature: Tensor) -> Tensor:
    """(B, B, B): of the angle at image j between i and k; 0 where two of them are one."""
    directions = F.normalize(feature[:, None] - feature[None], dim=2, eps=_EPS)  # (j, i, D)
    return directions @ directions.transpose(1, 2)


def _weight(name: str, value: object) -> float:
    if not is_number(value) or not 0 <= value < torch.inf:
        raise InputError(f"{parameter(name)}={value!r} must be a finite number of at least 0")
    return float(value)
