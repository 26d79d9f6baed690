"""Objectives of detectors: their own losses, and with these the losses between a student's and a teacher's features."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lshfm.errors import InputError
from lshfm.losses.windows import WindowLSH, on_windows
from lshfm.models.detection.contract import Draw, Places, Seen, Target
from lshfm.objectives.learner import Learner
from lshfm.objectives.teacher import Normalisation, Teacher
from lshfm.objectives.terms import Term, Terms, add_up
from lshfm.ranks.device import autocast


class BoxBatch(Protocol):
    """What objectives read of a batch of images of their own sizes."""

    @property
    def images(self) -> Sequence[Tensor]: ...  # (3, h, w) float32 each
    @property
    def targets(self) -> Sequence[Target]: ...
    @property
    def draws(self) -> Sequence[Draw]: ...
    @property
    def progress(self) -> float: ...  # epochs done, with the fraction


class Learning(nn.Module):
    """A detector's training pass as the module that DDP wraps."""

    network: Any  # a models.detection.contract.Detector

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Sequence[Tensor], targets: Sequence[Target], draws: Sequence[Draw]) -> Seen:
        """Losses and features."""
        seen: Seen = self.network.learn(images, targets, draws)
        return seen


class Detect(Learner):
    """A detector that learns from boxes by its own losses, each of weight 1.

    freeze: names as in models.freeze; what a detector itself freezes stays so.
    """

    def __init__(self, model: nn.Module, *, freeze: Sequence[str] = (), precision: str = "fp32") -> None:
        super().__init__(model, freeze, precision)
        self.trained = Learning(model)

    def forward(self, batch: BoxBatch) -> dict[str, Tensor]:
        """Named losses of a batch, fp32 scalars."""
        return own_losses(self.see(batch))

    def heads(self) -> list[nn.Parameter]:
        """The parameters behind the backbone."""
        backbone = {id(parameter) for parameter in self._backbone()}
        return [parameter for parameter in self.model.parameters() if id(parameter) not in backbone]

    def hold(self) -> None:
        """Until `release` the backbone does not learn."""
        self._held = [parameter for parameter in self._backbone() if parameter.requires_grad]
        for parameter in self._held:
            parameter.requires_grad = False

    def _backbone(self) -> list[nn.Parameter]:
        return list(self.model.get_submodule("backbone").parameters())

    def see(self, batch: BoxBatch) -> Seen:
        """The student's pass over a batch."""
        with autocast(batch.images[0].device, self.precision):
            seen: Seen = self.trained(batch.images, batch.targets, batch.draws)
        return seen


class DetectorTeacher(Teacher):
    """A frozen detector, which gives features of the places that the student's pass chose, and nothing else."""

    def __init__(
        self, network: nn.Module, *, precision: str = "fp32", normalisation: Normalisation | None = None
    ) -> None:
        if normalisation:
            raise InputError("a detector's teacher must have been trained with the same dataset.mean and dataset.std")
        super().__init__(network, precision=precision)

    @property
    def on_images(self) -> nn.Module:
        """The detector itself."""
        return self.network

    def cast_once(self, images: Tensor) -> bool:  # noqa: ARG002
        """No: `at` alone is asked of it, and not its outputs on images."""
        return False

    def wrap(self, wrap: Callable[[nn.Module], nn.Module], *, maps: bool = False) -> None:  # noqa: ARG002
        """Have the detector run what `wrap` makes of its backbone, say a compiled one."""
        self.network.backbone = wrap(self.network.get_submodule("backbone")).eval()

    @torch.no_grad()
    def at(self, places: Places) -> Tensor | list[Tensor]:
        """The features of boxes (R, D) in fp32, or the maps of each level."""
        with autocast(places.pixels.device, self.precision):
            features: Tensor | list[Tensor] = self.network.features(places)  # type: ignore[operator]
        if isinstance(features, Tensor):
            return features if features.dtype == torch.float64 else features.float()
        return features


class MimicDetect(Detect):
    """A detector that learns from boxes and from a teacher's features (arXiv 2011.01424, detection experiments).

    terms: losses between features, weighted by beta. beta_warmup: epochs over which that weight rises from 0.
    positions: all, as published, or matched: those that see an object.
    """

    def __init__(
        self,
        model: nn.Module,
        teacher: DetectorTeacher,
        *,
        terms: Terms,
        gamma: float = 1.0,
        positions: str = "all",
        beta_warmup: float = 0.0,
        freeze: Sequence[str] = (),
        precision: str = "fp32",
    ) -> None:
        super().__init__(model, freeze=freeze, precision=precision)
        self.teacher, self.gamma = teacher, gamma
        self.positions, self.beta_warmup = positions, beta_warmup
        self.terms = terms if is_of_boxes(model) else of_windows(terms)

    def wrap_frozen(self, wrap: Callable[[nn.Module], nn.Module]) -> None:
        """Have steps run what `wrap` makes of the teacher's backbone."""
        self.teacher.wrap(wrap)

    def hasten(self, *, bf16: bool, compiled: bool) -> None:
        """Let the hashes of windows take products in bf16, and compile how they are compared."""
        for loss in self.terms.losses:
            if isinstance(loss, WindowLSH):
                loss.hasten(bf16=bf16, compiled=compiled)

    def forward(self, batch: BoxBatch) -> dict[str, Tensor]:
        """Named losses of a batch, fp32 scalars; the losses between features are named as terms."""
        seen = self.see(batch)
        own = {name: self.gamma * loss for name, loss in own_losses(seen).items()}
        return add_up([*own.items(), *self._mimicked(seen, self._risen(batch.progress)).items()])

    def _risen(self, progress: float) -> float:
        return min(progress / self.beta_warmup, 1.0) if self.beta_warmup else 1.0

    def _mimicked(self, seen: Seen, factor: float) -> dict[str, Tensor]:
        """The losses between features of the chosen positions; 0 where no box is one, of which there is no mean."""
        theirs = self.teacher.at(seen.places)
        chosen = seen.kept if self.positions == "all" else seen.matched
        if not isinstance(chosen, Tensor):
            return self._weighted(factor, seen.features, theirs, chosen)
        assert isinstance(seen.features, Tensor)
        assert isinstance(theirs, Tensor)
        if self.positions != "all" and not chosen.any():
            return dict.fromkeys(self.terms.names, 0 * seen.features.sum())
        both = (seen.features, theirs) if self.positions == "all" else (seen.features[chosen], theirs[chosen])
        return self._weighted(factor, *both)

    def _weighted(self, factor: float, *given: Tensor | Sequence[Tensor]) -> dict[str, Tensor]:
        return {name: factor * loss for name, loss in self.terms(*given).items()}


def own_losses(seen: Seen) -> dict[str, Tensor]:
    """A detector's losses, in single precision at least."""
    return {name: loss if loss.dtype == torch.float64 else loss.float() for name, loss in seen.losses.items()}


def is_of_boxes(model: nn.Module) -> bool:
    """Whether a detector's features are (R, D), of boxes; else they are windows of maps."""
    return isinstance(model.classifier, nn.Linear)


def of_windows(terms: Terms) -> Terms:
    """The same losses on windows of maps. Raises InputError for one that has no such form."""
    named = zip(terms.names, terms.weights, terms.losses, strict=True)
    return Terms([Term(name, weight, on_windows(loss)) for name, weight, loss in named])
