"""The objective of a stage of mimicking, from its settings."""

import torch
from torch import nn

from lshfm.config.schema import Mimic
from lshfm.errors import at
from lshfm.losses.lsh import HashFunctions
from lshfm.mimicking.terms import terms_by_kind
from lshfm.objectives.align import Align
from lshfm.objectives.learner import Learner
from lshfm.objectives.teacher import Recorded, Teacher
from lshfm.ranks.group import num_ranks
from lshfm.tasks.losses import log_loss
from lshfm.tasks.pixels import TrainingData
from lshfm.tasks.task import Task


def stage_objective(
    settings: Mimic, task: Task, student: nn.Module, teacher: Teacher | Recorded, functions: HashFunctions | None,
    data: TrainingData, device: torch.device, precision: str,
) -> Learner:  # fmt: skip
    """Stage 1 aligns the student's projection with the teacher, stage 2 trains all of the student.

    teacher: the network, or a recording of it. functions: of the losses that hash. precision: of the
    student's arithmetic.
    """
    freeze = settings.freeze
    terms = {kind: each.to(device) for kind, each in terms_by_kind(settings.loss, functions).items()}
    on_features, on_logits = terms.pop("feature"), terms.pop("logit")
    if settings.is_stage1:
        with at("student"):
            return Align(student, teacher, on_features, freeze=freeze, precision=precision)
    label_name, label_loss = task.label_loss(
        settings.label_loss, num_ranks() * settings.accumulate, at="label_loss", labels=data.labels
    )
    log_loss(label_name, label_loss)
    return task.mimic(
        student, teacher, settings.loss, label_loss=label_loss.to(device), label_name=label_name,
        on_features=on_features, on_logits=on_logits, others=terms, freeze=freeze, precision=precision,
    )  # fmt: skip
