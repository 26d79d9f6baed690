"""Stage 2: the student learns from the labels, the teacher's features and its logits at once."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from lshfm.objectives.learner import LabelledBatch, Learner
from lshfm.objectives.teacher import Recorded, Teacher
from lshfm.objectives.terms import Terms, add_up
from lshfm.ranks.device import autocast


class Mimic(Learner):
    """The whole student learns from gamma * label loss + the weighted terms (arXiv 2011.01424, section 3).

    freeze: names as in models.freeze, of what does not learn. Raises InputError as apply_freeze does.
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
        freeze: Sequence[str] = (),
        precision: str = "fp32",
    ) -> None:
        super().__init__(model, freeze, precision)
        self.teacher = teacher
        self.label_loss, self.label_name, self.gamma = label_loss, label_name, gamma
        self.feature_terms, self.logit_terms = feature_terms, logit_terms

    def wrap_frozen(self, wrap: Callable[[nn.Module], nn.Module]) -> None:
        """The teacher's network, in steps alone."""
        self.teacher.wrap(wrap)

    def forward(self, batch: LabelledBatch) -> dict[str, Tensor]:
        """Named losses of a batch, fp32 scalars; those of equal names are summed."""
        with autocast(batch.images.device, self.precision):
            feature_s, logits_s = self.trained(batch.images)
        feature_t, logits_t = self.teacher(batch)
        label = self.gamma * self.label_loss(logits_s.float(), batch.labels)
        features = self.feature_terms(feature_s, feature_t)
        logits = self.logit_terms(logits_s, logits_t)
        return add_up([(self.label_name, label), *features.items(), *logits.items()])
