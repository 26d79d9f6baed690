"""The teacher: a frozen network that sees the same augmented pixels as the student, normalised its own way."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, Self

import torch
from torch import Tensor, nn

from lshfm.errors import InputError
from lshfm.models.cast import cast_once
from lshfm.objectives.learner import ImageBatch
from lshfm.ranks.device import autocast


class Normalisation(NamedTuple):
    """From the student's normalised pixels to the teacher's: x_t = x_s * scale + shift, a number a channel."""

    scale: tuple[float, ...]
    shift: tuple[float, ...]


def renormalisation(
    mean_s: Sequence[float], std_s: Sequence[float], mean_t: Sequence[float], std_t: Sequence[float]
) -> Normalisation | None:
    """How to undo the student's mean and std and apply the teacher's; None where they are equal.

    All are on the scale of pixels in [0, 1], one number a channel. Raises InputError unless there are as many
    of each and the teacher's std are above 0.
    """
    if not len(mean_s) == len(std_s) == len(mean_t) == len(std_t) or not all(std > 0 for std in std_t):
        raise InputError(
            f"the teacher's mean={list(mean_t)} and std={list(std_t)} must be {len(mean_s)} numbers each, as the "
            "student's are, every std above 0"
        )
    if (*mean_s, *std_s) == (*mean_t, *std_t):
        return None
    scale = tuple(s / t for s, t in zip(std_s, std_t, strict=True))
    shift = tuple((s - t) / std for s, t, std in zip(mean_s, mean_t, std_t, strict=True))
    return Normalisation(scale, shift)


def _per_channel(numbers: tuple[float, ...]) -> Tensor:
    return torch.tensor(numbers).view(-1, 1, 1)  # (3, 1, 1)


class WithMaps(nn.Module):
    """A network whose call gives the maps of its stages before its outputs, so that one pass gives both."""

    network: Any  # an nn.Module with `maps`

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[list[Tensor], tuple[Tensor, Tensor]]:
        """(B, 3, S, S) -> maps (B, C_i, h_i, w_i), (feature (B, D), logits (B, C))."""
        maps, outputs = self.network.maps(images)
        return maps, outputs


class Teacher(nn.Module):
    """A frozen network: its parameters never learn, it never leaves eval mode, and it keeps no gradients.

    Objectives call it with the whole batch and read nothing of it but outputs and `num_features`, so that
    `Recorded` can stand in its place.
    normalisation: where the teacher was trained with another mean and std than the student's images have; None
    passes the pixels on untouched.
    """

    scale: Tensor | None
    shift: Tensor | None

    def __init__(
        self, network: nn.Module, *, precision: str = "fp32", normalisation: Normalisation | None = None
    ) -> None:
        super().__init__()
        self.network, self.precision = network.requires_grad_(False), precision
        self._in_steps: nn.Module | None = None  # what `forward` runs in place of the network
        self._maps_in_steps: nn.Module | None = None  # and `maps`
        scale, shift = map(_per_channel, normalisation) if normalisation else (None, None)
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("shift", shift, persistent=False)
        self.eval()

    @property
    def on_images(self) -> nn.Module:
        """The teacher as any network: images (B, 3, S, S) -> (feature, logits)."""
        return _OnImages(self)

    @property
    def num_features(self) -> int:
        """The feature's width, D."""
        return int(self.network.num_features)  # type: ignore[arg-type]

    def train(self, mode: bool = True) -> Self:  # noqa: ARG002
        """Stay in eval mode: an objective's train() reaches its teacher too."""
        return super().train(False)

    def wrap(self, wrap: Callable[[nn.Module], nn.Module], *, maps: bool = False) -> None:
        """Have steps run what `wrap` makes of the network that they run so far, say a compiled one.

        maps: steps ask for `maps`, and for nothing else.
        """
        if maps:
            self._maps_in_steps = wrap(WithMaps(self._network_of_steps)).eval()
        else:
            self._in_steps = wrap(self._network_of_steps).eval()

    @property
    def _network_of_steps(self) -> nn.Module:
        return self.network if self._in_steps is None else self._in_steps

    @torch.no_grad()
    def cast_once(self, images: Tensor) -> bool:
        """Have steps run a copy of the network whose weights are cast to bf16 already, where a bf16 teacher has them.

        images: (B, 3, S, S), on which the copy has to give the same outputs, to the bit; whether it does.
        """
        if self.precision != "bf16":
            return False
        copied = cast_once(self.network, torch.bfloat16)
        same = map(torch.equal, self._embed(images, copied), self._embed(images, self.network))
        if not all(same):
            return False
        self._in_steps = copied
        return True

    def forward(self, batch: ImageBatch) -> tuple[Tensor, Tensor]:
        """Feature (B, num_features) and logits (B, C) of a batch, both fp32."""
        return self._embed(batch.images, self._network_of_steps)

    def embed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S), normalised as the student's -> feature (B, num_features), logits (B, C), both fp32."""
        return self._embed(images, self.network)

    @torch.no_grad()
    def _embed(self, images: Tensor, network: nn.Module) -> tuple[Tensor, Tensor]:
        with autocast(images.device, self.precision):
            feature, logits = network(self._own(images))
        return feature.float(), logits.float()

    @torch.no_grad()
    def maps(self, batch: ImageBatch) -> tuple[list[Tensor], tuple[Tensor, Tensor]]:
        """Maps of the network's stages, and what `forward` gives, of a batch; all fp32."""
        with autocast(batch.images.device, self.precision):
            network = self._maps_in_steps or WithMaps(self._network_of_steps)
            maps, (feature, logits) = network(self._own(batch.images))
        return [each.float() for each in maps], (feature.float(), logits.float())

    def _own(self, images: Tensor) -> Tensor:
        """The student's pixels as this network is used to them."""
        if self.scale is None or self.shift is None:
            return images
        return images * self.scale + self.shift


class TaughtBatch(Protocol):
    """A batch that carries a teacher's outputs."""

    @property
    def feature_t(self) -> Tensor: ...  # (B, D) float32
    @property
    def logits_t(self) -> Tensor: ...  # (B, C) float32


class Recorded(nn.Module):
    """Stands in a teacher's place where batches carry its outputs: no step runs the network.

    num_features: the feature's width.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def wrap(self, wrap: Callable[[nn.Module], nn.Module], *, maps: bool = False) -> None:
        """As of a teacher: there is no network to wrap."""

    def forward(self, batch: TaughtBatch) -> tuple[Tensor, Tensor]:
        """Feature and logits that the batch carries."""
        return batch.feature_t, batch.logits_t


class _OnImages(nn.Module):
    """A teacher as a network: called with images instead of a batch."""

    def __init__(self, teacher: Teacher) -> None:
        super().__init__()
        self.teacher = teacher

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.teacher.embed(images)
