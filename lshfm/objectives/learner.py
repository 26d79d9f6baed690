"""The base class of objectives, and the protocols of the batches that they read."""

from collections.abc import Callable, Sequence
from typing import Protocol, Self

from torch import Tensor, nn

from lshfm.models.freeze import apply_freeze, heads, hold_backbone, hold_statistics, set_train_mode


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
    def labels(self) -> Tensor: ...  # (B, ...), as the task has them
    @property
    def second_labels(self) -> Tensor | None: ...  # of mixed pictures: those of the pictures mixed in, as `labels`
    @property
    def share(self) -> Tensor | None: ...  # of the first pictures in mixed ones, a scalar


def over_labels(batch: LabelledBatch, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """A loss of labels for a batch; of mixed pictures that of both labels, each by its share (mixup, cutmix)."""
    if batch.second_labels is None or batch.share is None:
        return loss(batch.labels)
    return batch.share * loss(batch.labels) + (1 - batch.share) * loss(batch.second_labels)


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
        self._held: list[nn.Parameter] | None = None  # what `release` sets going again

    def heads(self) -> list[nn.Parameter]:
        """The parameters behind the backbone. Raises InputError as models.freeze.heads does."""
        return [parameter for head in heads(self.model) for parameter in head.parameters()]

    def hold(self) -> None:
        """Until `release` the backbone does not learn, and its BatchNorm layers are in eval mode.

        Before DDP wraps `trained`, which must be wrapped anew after the release. Raises InputError as `heads` does.
        """
        self._held = hold_backbone(self.model)

    def release(self) -> None:
        """Let the backbone learn, what `freeze` names excepted."""
        for parameter in self._held or ():
            parameter.requires_grad = True
        self._held = None

    def wrap_frozen(self, wrap: Callable[[nn.Module], nn.Module]) -> None:
        """Have steps run what `wrap` makes of the frozen networks beside `trained`; here there are none."""

    def hasten(self, *, bf16: bool, compiled: bool) -> None:
        """Let losses take bf16 where it changes next to nothing, and compile what they can; most have neither."""

    def train(self, mode: bool = True) -> Self:
        """Set training mode; frozen BatchNorm statistics, and those of a held backbone, stay in eval mode."""
        super().train(mode)
        if mode:
            set_train_mode(self.model, self.frozen)
            if self._held is not None:
                hold_statistics(self.model)
        return self
