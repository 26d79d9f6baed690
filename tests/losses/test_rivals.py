"""Rival losses against their papers' formulas, written out entry by entry, in float64."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lshfm.errors import InputError
from lshfm.losses.rivals import DKD, RKD, Attention, Hint

G = torch.Generator().manual_seed(0)


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=G, dtype=torch.float64)


def slope(loss: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """By differences, entry by entry."""
    found = torch.zeros_like(at)
    for i in range(at.numel()):
        step = torch.zeros(at.numel(), dtype=at.dtype)
        step[i] = 1e-6
        step = step.view(at.shape)
        found.view(-1)[i] = (loss(at + step) - loss(at - step)) / 2e-6
    return found


def agree(loss: Callable[[Tensor], Tensor], by_hand: Callable[[Tensor], float], at: Tensor) -> None:
    """Value and gradient are those of the formula."""
    given = at.clone().requires_grad_()
    value = loss(given)
    value.backward()
    assert value.item() == pytest.approx(by_hand(at), rel=1e-9)
    assert given.grad is not None
    torch.testing.assert_close(
        given.grad, slope(lambda x: torch.tensor(by_hand(x), dtype=x.dtype), at), atol=2e-7, rtol=1e-5
    )


def softmax(values: list[float]) -> list[float]:
    powers = [math.exp(value) for value in values]
    return [power / sum(powers) for power in powers]


def kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def test_dkd_is_its_equation_7() -> None:
    teacher, labels, alpha, beta, heat = drawn(3, 4), [2, 0, 3], 1.5, 8.0, 4.0

    def by_hand(student: Tensor) -> float:
        total = 0.0
        for row, other, y in zip(student.tolist(), teacher.tolist(), labels, strict=True):
            p, q = (softmax([z / heat for z in each]) for each in (other, row))  # teacher, student
            two = kl([p[y], 1 - p[y]], [q[y], 1 - q[y]])
            rest = [[x / (1 - each[y]) for c, x in enumerate(each) if c != y] for each in (p, q)]
            total += alpha * two + beta * kl(*rest)
        return heat**2 * total / 3

    loss = DKD(alpha, beta, heat)
    agree(lambda student: loss(student, teacher, torch.tensor(labels)), by_hand, drawn(3, 4))


def test_dkd_of_both_weights_as_kd_has_them_is_kd() -> None:
    """KD = TCKD + (1 - p_t) NCKD (equation 6): with one image, beta = 1 - p_t gives the softened KL."""
    student, teacher = drawn(1, 5), drawn(1, 5)
    p, q = (softmax((z[0] / 4).tolist()) for z in (teacher, student))
    loss = DKD(1.0, 1 - p[1], 4.0)(student, teacher, torch.tensor([1]))
    assert loss.item() == pytest.approx(16 * kl(p, q), rel=1e-9)


def test_dkd_is_finite_for_large_logits() -> None:
    student = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    loss = DKD()(student, torch.tensor([[-1e4, 1e4, 0.0]]), torch.tensor([0]))
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()


def test_no_shape_depends_on_values() -> None:
    """On a GPU the host would have to wait for it, and no graph could record it."""
    logits, labels = torch.zeros(2, 4, 7, device="meta"), torch.zeros(4, dtype=torch.int64, device="meta")
    assert DKD()(*logits, labels).shape == RKD()(*logits).shape == ()


def attention(maps: Tensor) -> list[list[float]]:
    """Of each image the squared map, mean over channels, place by place, of length 1."""
    found = []
    for image in maps:
        values = [float((image[:, i, j] ** 2).mean()) for i in range(image.shape[1]) for j in range(image.shape[2])]
        found.append([value / math.sqrt(sum(v**2 for v in values)) for value in values])
    return found


def test_attention_is_the_squared_distance_of_normalised_maps() -> None:
    teacher = [drawn(2, 5, 2, 2), drawn(2, 4, 4, 4)]
    other = drawn(2, 2, 2, 2)

    def by_hand(first: Tensor) -> float:
        pooled = torch.stack([teacher[1][:, :, i : i + 2, j : j + 2].mean((2, 3)) for i in (0, 2) for j in (0, 2)], 2)
        total = 0.0
        for s, t in ((first, teacher[0]), (other, pooled.view(2, 4, 2, 2))):
            pairs = [(a, b) for x, y in zip(attention(s), attention(t), strict=True) for a, b in zip(x, y, strict=True)]
            total += sum((a - b) ** 2 for a, b in pairs) / len(pairs)
        return total

    agree(lambda first: Attention()([first, other], teacher), by_hand, drawn(2, 3, 2, 2))


def test_the_hint_is_the_mean_square_of_one_stage() -> None:
    teacher = [drawn(1, 2, 2, 2), drawn(1, 3, 2, 2)]

    def by_hand(maps: Tensor) -> float:
        return (
            sum((a - b) ** 2 for a, b in zip(maps.flatten().tolist(), teacher[1].flatten().tolist(), strict=True)) / 12
        )

    agree(lambda maps: Hint(1)([teacher[0], maps], teacher), by_hand, drawn(1, 3, 2, 2))


def huber(a: float, b: float) -> float:
    return (a - b) ** 2 / 2 if abs(a - b) <= 1 else abs(a - b) - 0.5


def test_rkd_is_its_equations_4_to_8() -> None:
    teacher, n = drawn(3, 5), 3

    def distances(feature: list[list[float]]) -> list[list[float]]:
        lengths = [[math.dist(a, b) for b in feature] for a in feature]
        mean = sum(map(sum, lengths)) / (n * n - n)
        return [[length / mean for length in row] for row in lengths]

    def cosine(f: list[list[float]], i: int, j: int, k: int) -> float:
        a, b = ([x - y for x, y in zip(f[m], f[j], strict=True)] for m in (i, k))
        lengths = math.hypot(*a) * math.hypot(*b)
        return sum(x * y for x, y in zip(a, b, strict=True)) / lengths if lengths else 0.0

    def by_hand(student: Tensor) -> float:
        s, t = student.tolist(), teacher.tolist()
        ds, dt = distances(s), distances(t)
        far = sum(huber(ds[i][j], dt[i][j]) for i in range(n) for j in range(n)) / n**2
        triples = [(i, j, k) for i in range(n) for j in range(n) for k in range(n)]
        return 25 * far + 50 * sum(huber(cosine(s, *each), cosine(t, *each)) for each in triples) / n**3

    agree(lambda student: RKD()(student, teacher), by_hand, drawn(3, 2))


def test_rkd_of_equal_features_has_a_finite_slope() -> None:
    student = torch.ones(3, 2, requires_grad=True)
    loss = RKD()(student, drawn(3, 2).float())
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()


def test_maps_that_cannot_be_paired_are_refused() -> None:
    three, four = [drawn(1, 2, 2, 2)] * 3, [drawn(1, 2, 2, 2)] * 4
    for loss in (Attention(), Hint()):
        with pytest.raises(InputError, match="the student has 3 stages and the teacher 4"):
            loss(three, four)
    with pytest.raises(InputError, match="stage=5: the networks have stages 0 to 2"):
        Hint(5)(three, three)
    with pytest.raises(InputError, match="stage 1 has 2 in the student and 3 in the teacher"):
        Hint(1)(three, [drawn(1, 3, 2, 2)] * 3)
    for build in (lambda: DKD(alpha=-1), lambda: RKD(angle=-1)):
        with pytest.raises(InputError, match="must be a finite number of at least 0"):
            build()
