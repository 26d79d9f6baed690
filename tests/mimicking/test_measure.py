"""A student measured beside its teacher."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lshfm.console import console
from lshfm.datasets.split import Pixels, Split
from lshfm.errors import InputError
from lshfm.losses.lsh import draw_weights
from lshfm.metrics import multilabel
from lshfm.metrics.mimicry import compare, measure
from lshfm.mimicking.measure import REFERENCE_NUM, ComparedEvaluator, Reference, show, warn_if_apart
from lshfm.objectives.teacher import Teacher
from lshfm.tasks.multilabel import MultiLabel

N, D, C = 12, 4, 3
CLASSES = tuple("abc")
GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.randn(N, D, 1, 1, generator=GENERATOR)
LABELS = torch.randint(-1, 2, (N, C), generator=GENERATOR).to(torch.int8)


class Batches:
    """A split of so many images, in batches of five."""

    indices = np.arange(N)

    def __len__(self) -> int:
        return 3

    def epoch(self, epoch: int) -> Iterator[Any]:
        for index in torch.arange(N).split(5):
            yield type("Batch", (), {"index": index, "images": IMAGES[index], "labels": LABELS[index]})


class NoPictures:
    """None that anyone could ask for."""

    def __len__(self) -> int:
        return N

    def pixels(self, index: int, size: int) -> Pixels:
        raise NotImplementedError

    def signature(self) -> str:
        return "0" * 64

    fingerprint = signature

    def where(self, index: int) -> str:
        return str(index)


class Network(nn.Module):
    """feature = images @ matrix + shift."""

    def __init__(self, matrix: Tensor, shift: float = 0.0) -> None:
        super().__init__()
        self.num_features, self.shift = matrix.shape[1], shift
        self.register_buffer("matrix", matrix)
        self.classifier = nn.Linear(self.num_features, C)
        with torch.no_grad():
            self.classifier.weight.copy_(torch.linspace(-1, 1, self.classifier.weight.numel()).view(C, -1))
            nn.init.zeros_(self.classifier.bias)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        feature = images.flatten(1) @ self.matrix + self.shift
        return feature, self.classifier(feature)


IDS = tuple(f"image{number}" for number in range(N))
SPLIT = Split("test", CLASSES, IDS, LABELS.numpy(), NoPictures())


def beside(teacher: nn.Module, *, labels: bool = True) -> ComparedEvaluator:
    batches: Any = Batches()
    return ComparedEvaluator(MultiLabel(), batches, SPLIT, "voc2010", Teacher(teacher), "its_name", labels=labels)


def reference(evaluator: ComparedEvaluator) -> Reference:
    """What its teacher was measured to be."""
    evaluator.prepare()
    assert evaluator._reference
    return evaluator._reference


TEACHER = torch.eye(D)
STUDENT = 0.5 * torch.eye(D)[[1, 0, 2, 3]]  # two directions swapped, half as long


def test_the_measures_are_those_of_the_features() -> None:
    evaluation, arrays = beside(Network(TEACHER))(Network(STUDENT))
    feature_t, feature_s = IMAGES.flatten(1).numpy(), (IMAGES.flatten(1) @ STUDENT).numpy()
    std = Network(TEACHER).classifier.weight.std().item()
    weights = draw_weights(2048, D, std, 0).numpy()
    bias = -np.sort(weights @ feature_t.T, axis=1)[:, (N - 1) // 2]  # the lower median
    images = compare(feature_s, feature_t, weights, bias)
    expected = measure(feature_s, feature_t, images)
    found = evaluation.report["mimicry"]
    assert found["angle"] == pytest.approx(expected["angle"], rel=1e-6)
    assert found["relative_length"] == pytest.approx(0.5, rel=1e-6)
    assert found["hash_agreement"] == pytest.approx(expected["hash_agreement"], abs=0.01)
    assert 50 < found["hash_agreement"] < 100
    assert arrays.keys() == {"ids", "logits", "targets", "angle", "relative_length", "equal_bits"}
    np.testing.assert_allclose(arrays["angle"], images["angle"], rtol=1e-5)
    np.testing.assert_allclose(arrays["relative_length"], [0.5] * N, rtol=1e-6)
    assert found["hash_agreement"] == 100 * arrays["equal_bits"].sum() / N
    assert arrays["ids"].tolist() == list(IDS)
    assert np.array_equal(arrays["targets"], LABELS.numpy())
    assert evaluation.beside == {
        "angle": found["angle"],
        "length": found["relative_length"],
        "hash agreement": found["hash_agreement"],
        "teacher mAP": found["teacher_mAP"],
    }


def test_both_map_stand_in_the_report() -> None:
    evaluation, _ = beside(Network(TEACHER))(Network(STUDENT))
    maps = [
        multilabel.measure(network(IMAGES)[1].detach().numpy(), LABELS.numpy(), CLASSES, "voc2010")["mAP"]
        for network in (Network(TEACHER), Network(STUDENT))
    ]
    assert evaluation.report["mimicry"]["teacher_mAP"] == pytest.approx(maps[0])
    assert (evaluation.name, evaluation.score) == ("voc2010 mAP", pytest.approx(maps[1]))
    assert evaluation.report["mAP"] == evaluation.score


def test_a_student_like_its_teacher() -> None:
    found = beside(Network(TEACHER))(Network(TEACHER))[0].report["mimicry"]
    assert (found["angle"], found["relative_length"], found["hash_agreement"]) == (0.0, 1.0, 100.0)


def test_after_stage_1_there_is_no_students_map() -> None:
    evaluation, _ = beside(Network(TEACHER), labels=False)(Network(STUDENT))
    mimicry = evaluation.report["mimicry"]
    assert (evaluation.name, evaluation.score) == ("hash agreement", mimicry["hash_agreement"])
    assert evaluation.report.keys() == {"mimicry"}
    assert evaluation.beside.keys() == {"angle", "length", "teacher mAP"}


def test_the_teacher_is_evaluated_once_and_said(said: list[str]) -> None:
    evaluator = beside(Network(TEACHER))
    assert said == []
    first = reference(evaluator)
    evaluator(Network(STUDENT))
    assert reference(evaluator) is first
    assert said == [f"teacher its_name: voc2010 mAP {first.evaluation.score:.2f}"]


def test_the_reference_is_the_same_whatever_the_run() -> None:
    references = []
    for seed in (1, 2):  # of everything random in a run
        torch.manual_seed(seed)
        references.append(reference(beside(Network(TEACHER))))
    first, second = references
    assert first.weights.shape == (REFERENCE_NUM, D) == (2048, 4)
    assert np.array_equal(first.weights, second.weights)
    assert np.array_equal(first.bias, second.bias)
    bits = first.features @ first.weights.T + first.bias > 0
    assert (np.abs(bits.sum(axis=0) - N / 2) <= 1).all()


def test_widths_that_differ_do_not_compare() -> None:
    evaluation, _ = beside(Network(TEACHER))(Network(TEACHER[:, :3]))
    mimicry = evaluation.report["mimicry"]
    assert [mimicry[name] for name in ("angle", "relative_length", "hash_agreement")] == [None] * 3
    assert [evaluation.beside[name] for name in ("angle", "length", "hash agreement")] == [None] * 3
    assert mimicry["teacher_mAP"] > 0
    assert evaluation.score is not None


@pytest.mark.parametrize(("spread", "warns"), [(1e-4, True), (1.0, False)])
def test_an_untrained_teacher_is_noticed(said: list[str], spread: float, warns: bool) -> None:
    beside(Network(spread * TEACHER, shift=1.0)).prepare()
    assert any("of the hash bits (without bias) of the teacher its_name" in line for line in said) is warns
    assert any(line.endswith("hardly vary. Is it trained?") for line in said) is warns


def test_a_teacher_hardly_above_chance_is_noticed(said: list[str]) -> None:
    always_wrong = Network(TEACHER)
    ranked = torch.linspace(1, -1, N)  # every class ranks its positives last
    scores = torch.where(LABELS > 0, ranked[-1] - 1.0, ranked[:, None])
    always_wrong.forward = lambda images: (images.flatten(1), scores[batch_of(images)])  # type: ignore[method-assign]
    score = reference(beside(always_wrong)).evaluation.score
    assert score is not None
    chance = float(torch.stack([(c == 1).sum() / (c != 0).sum() for c in LABELS.T]).mean()) * 100
    assert said[-1] == f"the teacher its_name scores {score:.2f}, and chance {chance:.2f}: is it trained?"


def batch_of(images: Tensor) -> Tensor:
    """The numbers of these images."""
    return (images.flatten(1)[:, None] == IMAGES.flatten(1)).all(-1).nonzero()[:, 1]


def test_a_broken_teacher_is_refused() -> None:
    with pytest.raises(InputError, match=r"the teacher its_name cannot be mimicked: .* not finite for 12 of 12 images"):
        beside(Network(TEACHER * float("nan"))).prepare()


@pytest.mark.parametrize(
    ("teacher", "student", "warns"), [(50, 50.1, 1), (50, 50, 0), (50, 9, 0), (None, 9, 0), (9, None, 0)]
)
def test_a_teacher_below_its_student(said: list[str], teacher: Any, student: Any, warns: int) -> None:
    mimicry = {"angle": None, "relative_length": None, "hash_agreement": None, "teacher_mAP": teacher}
    with console.capture():
        show(MultiLabel(), "its_name", "small", {"mAP": student, "mimicry": mimicry})
    assert len(said) == warns
    if warns:
        assert said[0].startswith("the teacher its_name scores 50.00, below its student's 50.10")


def test_the_table_shows_a_dash_for_what_does_not_apply(capsys: pytest.CaptureFixture[str]) -> None:
    none = {"angle": None, "relative_length": None, "hash_agreement": None, "teacher_mAP": 61.5}
    show(MultiLabel(), "big", "small", {"mimicry": none})
    lines = [line for line in capsys.readouterr().out.splitlines() if "│" in line]
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]
    assert rows == [["teacher big", "61.50", "0.00", "1.00", "100.00", "100.00"], ["student small", *["-"] * 5]]


@pytest.mark.parametrize(
    ("agreement", "is_told"), [(49.9, True), (54.99, True), (55.0, False), (88.0, False), (None, False)]
)
def test_a_student_at_chance_is_told_of(
    agreement: float | None, is_told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Of older reports without the measure nothing is known."""
    warn_if_apart({"mimicry": {"hash_agreement": 50.0, "hash_agreement_own_medians": agreement}})
    assert ("hardly follow the teacher's" in caplog.text) is is_told
