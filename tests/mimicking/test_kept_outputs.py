"""A teacher's outputs on the evaluation split: computed once, kept with the run, never trusted blindly."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lshfm.mimicking.kept_outputs import KeptOutputs, outputs_key
from lshfm.mimicking.measure import ComparedEvaluator
from lshfm.objectives.teacher import Teacher
from lshfm.tasks.multilabel import MultiLabel
from tests.arrays import arrays
from tests.jobs import opened
from tests.mimicking.test_measure import SPLIT, STUDENT, TEACHER, Batches, N, Network

KEY = {"teacher": "a" * 64, "precision": "fp32"}


class Counted(Network):
    """A teacher that counts the batches it is given."""

    calls = 0

    def forward(self, images: Any) -> Any:
        self.calls += 1
        return super().forward(images)


def measured(path: Path, key: dict[str, Any] = KEY, num_images: int = N) -> tuple[Any, int]:
    """A student's evaluation beside its teacher, whose outputs are kept; and the batches the teacher was given."""
    teacher, batches = Counted(TEACHER), Batches()
    evaluator = ComparedEvaluator(
        MultiLabel(), batches, SPLIT, "voc2010", Teacher(teacher), "its_name", labels=True,  # type: ignore[arg-type]
        kept=KeptOutputs(path, key, num_images),
    )  # fmt: skip
    return evaluator(Network(STUDENT))[0], teacher.calls


def test_they_are_computed_once_and_give_the_same_measures(tmp_path: Path) -> None:
    first, second = (measured(tmp_path / "teacher.npz") for _ in range(2))
    assert (first[1], second[1]) == (3, 0)
    assert first[0] == second[0]


@pytest.mark.parametrize("name", ["teacher", "precision"])
def test_those_of_another_teacher_or_precision_are_computed_anew(tmp_path: Path, name: str, said: list[str]) -> None:
    path = tmp_path / "teacher.npz"
    measured(path)
    assert measured(path, KEY | {name: "other"})[1] == 3
    assert f"the teacher's outputs in {path} are computed anew: the file is of another {name}" in said
    assert measured(path, KEY | {name: "other"})[1] == 0  # which are kept in their place


def rewritten(path: Path, **changes: Any) -> None:
    content = arrays(path)
    np.savez(path, **{name: changes[name](values) if name in changes else values for name, values in content.items()})


def with_nan(values: np.ndarray) -> np.ndarray:
    values[0, 0] = np.nan
    return values


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"features": lambda v: v + 1}, "is damaged"),
        ({"evaluation": lambda v: np.array(str(v).replace("voc2010", "voc2007"))}, "is damaged"),
        ({"features": with_nan}, "holds values that are not finite"),
        ({"logits": lambda v: v[1:]}, "does not hold the 12 images"),
        ({"key": lambda v: np.array("{")}, "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_what_is_not_whole_is_computed_anew(tmp_path: Path, change: Any, why: str, said: list[str]) -> None:
    path = tmp_path / "teacher.npz"
    before = measured(path)[0]
    path.write_bytes(path.read_bytes()[:500]) if change is None else rewritten(path, **change)
    assert measured(path) == (before, 3)
    assert any(line.endswith(f"are computed anew: the file {why}") for line in said)


def test_the_key_tells_all_that_outputs_depend_on(settings: Any) -> None:
    data = opened(settings)
    given = ("weights", None, "fp32", data.test_split, data.test, "pixels", "multilabel", "voc2010", {})
    key = outputs_key(*given)
    others = [
        ("other", *given[1:]), (given[0], ((1.0,) * 3, (0.5,) * 3), *given[2:]), (*given[:2], "bf16", *given[3:]),
        (*given[:3], data.train_split, *given[4:]), (*given[:4], data.batches, *given[5:]),
        (*given[:5], "other", *given[6:]), (*given[:7], "uninterpolated", {}), (*given[:8], {"frozen_eps": 0.0}),
    ]  # fmt: skip
    assert outputs_key(*given) == key
    assert all(outputs_key(*other) != key for other in others)
