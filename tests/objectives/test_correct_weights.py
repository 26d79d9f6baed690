"""Losses over the teacher's right answers within the objective: over ranks, without any, of mixed pictures."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lshfm.datasets.loader import Batch
from lshfm.errors import InputError
from lshfm.losses.correct import CorrectL2
from lshfm.losses.rivals import Attention
from lshfm.losses.single_label import CE
from lshfm.models.cifar import cifar_classifier
from lshfm.models.classifier import Classifier
from lshfm.objectives.mimic import Mimic, correct_weights
from lshfm.objectives.teacher import Teacher
from lshfm.objectives.terms import Term, Terms
from lshfm.ranks.replicas import Clock, replicate
from tests.groups import in_ranks

IMAGES = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def batch(labels: list[int], rows: slice = slice(None), *mixed: Tensor) -> Batch:
    return Batch(torch.arange(8)[rows], IMAGES[: len(labels)][rows], torch.tensor(labels)[rows], 0, *mixed)


def answers() -> list[int]:
    """What the teacher says of each image."""
    with torch.no_grad():
        return objective().teacher.network(IMAGES)[1].argmax(1).tolist()


def objective(**settings: Any) -> Mimic:
    torch.manual_seed(3)
    student, teacher = (cifar_classifier("resnet8", 4) for _ in range(2))
    student.eval()  # BatchNorm of a rank's own images is no question here
    return Mimic(
        student, Teacher(teacher), label_loss=CE(), label_name="ce", gamma=1.0, feature_terms=Terms([]),
        logit_terms=Terms([]), **{"other_terms": {"correct": Terms([Term("l2", 2.0, CorrectL2())])}} | settings,
    )  # fmt: skip


def labels_right(right: list[bool]) -> list[int]:
    return [a if is_right else (a + 1) % 4 for a, is_right in zip(answers(), right, strict=True)]


RIGHT = [True, False, False, False, True, True, True, False]  # one of the first rank's images, three of the second's


def test_weights_are_one_over_the_number_of_right_answers() -> None:
    logits = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 1.0]])
    weights = correct_weights(logits, batch([0, 0, 0]))
    assert weights.tolist() == [0.5, 0.0, 0.5]
    assert correct_weights(logits, batch([1, 0, 1])).tolist() == [0, 0, 0]


def test_mixed_pictures_count_by_the_share_of_the_right_label() -> None:
    logits = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 1.0]])
    mixed = batch([0, 1, 1], slice(None), torch.tensor([1, 1, 0]), torch.tensor(0.75))
    assert correct_weights(logits, mixed).tolist() == pytest.approx([0.75 / 2, 1 / 2, 0.25 / 2])


def test_the_loss_is_the_mean_over_right_images_alone() -> None:
    learner = objective()
    losses = learner(batch(labels_right(RIGHT)))
    with torch.no_grad():
        features = [network(IMAGES)[0] for network in (learner.model, learner.teacher.network)]
    rows = (features[0] - features[1]).square().mean(1)
    expected = 2 * sum(float(row) for row, is_right in zip(rows, RIGHT, strict=True) if is_right) / 4
    assert losses["l2"].item() == pytest.approx(expected, rel=1e-5)


def test_a_batch_without_a_right_answer_learns_from_the_labels_alone() -> None:
    learner = objective()
    losses = learner(batch(labels_right([False] * 8)))
    assert losses["l2"].item() == 0
    losses["l2"].backward()
    assert all(p.grad is None or not p.grad.any() for p in learner.model.parameters())


def gradients(right: list[bool], rows: slice) -> dict[str, Tensor]:
    """Of a rank's part of the batch, averaged by DDP."""
    learner = objective()
    learner.trained = replicate(learner.trained, Clock())
    losses = learner(batch(labels_right(right), rows))
    sum(losses.values()).backward()
    return {name: p.grad for name, p in learner.model.named_parameters() if p.grad is not None}


def of_rank(right: list[bool]) -> dict[str, Tensor]:
    rank = torch.distributed.get_rank()
    return gradients(right, slice(4 * rank, 4 * rank + 4))


@pytest.mark.slow
@pytest.mark.parametrize("right", [RIGHT, [False] * 4 + [True] * 4])
def test_two_ranks_are_one(right: list[bool]) -> None:
    """The count is that of both: a mean of each rank's own mean would weigh the single right image like three."""
    alone = gradients(right, slice(0, 8))
    for rank in in_ranks(2, of_rank, right):
        assert rank.keys() == alone.keys()
        for name, gradient in rank.items():
            torch.testing.assert_close(gradient, alone[name], atol=1e-6, rtol=1e-4)


def test_maps_and_outputs_come_from_one_pass() -> None:
    learner = objective(other_terms={"map": Terms([Term("at", 1.0, Attention())])})
    calls: list[int] = []
    learner.model.backbone.conv1.register_forward_hook(lambda *_: calls.append(1))
    losses = learner(batch([0] * 8))
    assert (len(calls), list(losses)) == (1, ["ce", "at"])
    losses["at"].backward()
    assert learner.model.backbone.conv1.weight.grad is not None


def test_a_network_without_maps_is_refused() -> None:
    class Plain(nn.Module):
        num_features = 2
        projection = None

        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            return images.flatten(1)[:, :2], images.flatten(1)[:, :4]

    maps = {"map": Terms([Term("at", 1.0, Attention())])}
    teacher = Teacher(Classifier("linear", nn.Identity(), 3, 4))
    with pytest.raises(InputError, match="Plain has no maps"):
        Mimic(
            Plain(), teacher, label_loss=CE(), label_name="ce", gamma=1.0, feature_terms=Terms([]),
            logit_terms=Terms([]), other_terms=maps,
        )  # fmt: skip
