"""A fast run whose bf16 teacher casts its weights once: it is the run that casts them in every step, to the bit."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from lshfm.commands.mimic import mimic_here
from lshfm.objectives.teacher import Teacher
from tests.jobs import CPU, jobs, save_trained

pytestmark = pytest.mark.usefixtures("hydra")
WORDS = (
    "teacher=teacher", "student=resnet8", "loss=lshl2", "loss.hash_num=32", "batch_size=8", "epochs=1", "speed=fast",
    "precision=bf16",
)  # fmt: skip


@pytest.mark.slow
def test_a_run_is_the_same_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    save_trained("teacher")
    verdicts: list[bool] = []
    casting = Teacher.cast_once

    def noted(teacher: Teacher, images: torch.Tensor) -> bool:
        verdicts.append(casting(teacher, images))
        return verdicts[-1]

    ways: dict[str, Callable[..., Any]] = {"once": noted, "always": lambda *_: False}
    found = []
    for name, way in ways.items():
        monkeypatch.setattr(Teacher, "cast_once", way)
        mimic_here(jobs(*WORDS, f"name={name}"), CPU)
        found.append(torch.load(f"checkpoints/{name}_stage2.ckpt", weights_only=True)["model"])
    assert verdicts == [True, True]  # of both stages
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])
