"""Stage 2: the student learns from the labels, the teacher's features and its logits at once."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lshfm.errors import InputError
from lshfm.objectives.learner import LabelledBatch, Learner, over_labels
from lshfm.objectives.teacher import Recorded, Teacher, WithMaps
from lshfm.objectives.terms import Terms, add_up, scaled
from lshfm.ranks.device import autocast
from lshfm.ranks.group import num_ranks
from lshfm.ranks.sums import total


class Mimic(Learner):
    """The whole student learns from gamma * label loss + the weighted terms (arXiv 2011.01424, section 3).

    other_terms, by what their losses take: "correct", features and `correct_weights`; "labelled", logits and labels;
    "relation", features of any widths; "map", maps of both networks' stages.
    freeze: names as in models.freeze, of what does not learn. Raises InputError as apply_freeze does, and for a network
    without maps where losses take them.
    """

    def __init__(
        self,
        model: nn.Module,
        teacher: Teacher | Recorded,
        *,
        label_loss: nn.Module,
        label_name: str,
        gamma: float,
        feature_terms: Terms,
        logit_terms: Terms,
        other_terms: Mapping[str, Terms] | None = None,
        freeze: Sequence[str] = (),
        precision: str = "fp32",
    ) -> None:
        super().__init__(model, freeze, precision)
        self.teacher = teacher
        self.label_loss, self.label_name, self.gamma = label_loss, label_name, gamma
        self.feature_terms, self.logit_terms = feature_terms, logit_terms
        self.other_terms = nn.ModuleDict({kind: terms for kind, terms in (other_terms or {}).items() if terms.names})
        if self.takes_maps:
            if isinstance(teacher, Recorded):
                raise InputError("the chosen loss compares maps, which no teacher tape holds: teacher_tape=off")
            require_maps(model, teacher.network)
            self.trained = WithMaps(model)

    @property
    def takes_maps(self) -> bool:
        """Whether a loss compares maps."""
        return "map" in self.other_terms

    def wrap_frozen(self, wrap: Callable[[nn.Module], nn.Module]) -> None:
        """The teacher's network, in steps alone."""
        self.teacher.wrap(wrap, maps=self.takes_maps)

    def forward(self, batch: LabelledBatch) -> dict[str, Tensor]:
        """Named losses of a batch, fp32 scalars; those of equal names are summed."""
        with autocast(batch.images.device, self.precision):
            maps_s, (feature_s, logits_s) = self._student(batch.images)
        maps_t, (feature_t, logits_t) = self._taught(batch)
        label = scaled(over_labels(batch, lambda labels: self.label_loss(logits_s.float(), labels)), self.gamma)
        features = self.feature_terms(feature_s, feature_t)
        logits = self.logit_terms(logits_s, logits_t)
        others = self._others(batch, (maps_s, maps_t), (feature_s, feature_t), (logits_s, logits_t))
        return add_up([(self.label_name, label), *features.items(), *logits.items(), *others])

    def _student(self, images: Tensor) -> tuple[list[Tensor], tuple[Tensor, Tensor]]:
        outputs = self.trained(images)
        return outputs if self.takes_maps else ([], outputs)

    def _taught(self, batch: LabelledBatch) -> tuple[list[Tensor], tuple[Tensor, Tensor]]:
        if self.takes_maps and isinstance(self.teacher, Teacher):
            return self.teacher.maps(batch)
        return [], self.teacher(batch)

    def _others(
        self, batch: LabelledBatch, maps: tuple[Any, Any], features: tuple[Tensor, Tensor],
        logits: tuple[Tensor, Tensor],
    ) -> list[tuple[str, Tensor]]:  # fmt: skip
        found: list[tuple[str, Tensor]] = []
        for kind, terms in self.other_terms.items():
            if kind == "correct":
                named = terms(*features, correct_weights(logits[1], batch))
            elif kind == "labelled":
                named = _over_labels(terms, logits, batch)
            else:
                named = terms(*(maps if kind == "map" else features))
            found += named.items()
        return found


def require_maps(*networks: nn.Module) -> None:
    """Raise InputError for a network that does not give the maps of its stages."""
    for network in networks:
        if not callable(getattr(network, "maps", None)):
            raise InputError(
                f"{getattr(network, 'arch', type(network).__name__)} has no maps(images), which the chosen "
                "loss compares: take another loss or network"
            )


def correct_weights(logits_t: Tensor, batch: LabelledBatch) -> Tensor:
    """(B,): [argmax z_t = y] times ranks / M, M the number of such images over all ranks; all 0 where there are none.

    So that the mean over the ranks of weighted sums is the mean over the M images. A mixed picture counts by the share
    of the label that the teacher gives it. Labels are int64 (B,).
    """
    answers = logits_t.argmax(1)
    right = over_labels(batch, lambda labels: (answers == labels).float()).detach()
    count = total(right.sum())
    return right * torch.where(count > 0, num_ranks() / count.clamp(min=torch.finfo(count.dtype).tiny), 0.0)


def _over_labels(terms: nn.Module, logits: tuple[Tensor, Tensor], batch: LabelledBatch) -> dict[str, Tensor]:
    """The terms of logits and labels, of mixed pictures by the shares of both labels."""
    first: dict[str, Tensor] = terms(*logits, batch.labels)
    if batch.second_labels is None or batch.share is None:
        return first
    second: dict[str, Tensor] = terms(*logits, batch.second_labels)
    return {name: batch.share * first[name] + (1 - batch.share) * second[name] for name in first}
