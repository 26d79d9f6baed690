"""The base class of objectives, and the protocols of the batches that they read."""

from collections.abc import Sequence
from typing import Protocol, Self

from torch import Tensor, nn

from lshfm.models.freeze import apply_freeze, set_train_mode


class ImageBatch(Protocol):
    """What every objective reads of a batch; index and epoch together identify a sample's augmented picture."""

    @property
    def index(self) -> Tensor: ...  # (B,) int64, numbers of the samples
    @property
    def epoch(self) -> int: ...  # from 0
    @property
    def images(self) -> Tensor: ...  # (B, 3, S, S) float32


class LabelledBatch(ImageBatch, Protocol):
    """What an objective with labels reads of a batch."""

    @property
    def labels(self) -> Tensor: ...  # (B, C) int8 in {-1, 0, 1}


class Learner(nn.Module):
    """A network in training, the precision of its arithmetic, and the parts of it that are frozen.

    freeze: names as in models.freeze. Raises InputError as apply_freeze does. `trained` is the module that `forward`
    runs, `model` itself unless a subclass says otherwise; with several ranks DDP wraps it.
    """

    def __init__(self, model: nn.Module, freeze: Sequence[str], precision: str) -> None:
        super().__init__()
        self.model = model
        self.trained = model
        self.frozen, self.precision = tuple(freeze), precision
        apply_freeze(model, self.frozen)

    def train(self, mode: bool = True) -> Self:
        """Set training mode; frozen BatchNorm statistics stay in eval mode."""
        super().train(mode)
        if mode:
            set_train_mode(self.model, self.frozen)
        return self
