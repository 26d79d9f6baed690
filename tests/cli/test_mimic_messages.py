"""What mimic and eval refuse: one clear message, exit code 2, and nothing written."""

from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import pytest
import torch

from lshfm.config.compose import conf_folder
from lshfm.datasets.shapes import CLASSES
from tests.cli.conftest import Refuse, here
from tests.jobs import SMALL, network, save_aligned, save_trained

PAIR = ("mimic", "teacher=resnet8", "student=resnet8", *SMALL, "batch_size=8")
Save = Callable[[], object]


def save_broken() -> None:
    """A teacher whose features are not finite."""
    model = network()
    torch.nn.init.constant_(model.backbone.bn1.weight, float("inf"))
    save_trained("broken", model=model)


CASES: dict[str, tuple[Save, list[str], list[str]]] = {
    "no teacher": (lambda: None, [], ["no finished resnet8 on shapes is in checkpoints", "lshfm train dataset=shapes"]),
    "data": (
        lambda: save_trained("other", dataset={"name": "triangles"}),
        ["teacher=other"],
        ["was trained on triangles, but this is shapes"],
    ),
    "classes": (
        lambda: save_trained("other", classes=CLASSES[::-1]),
        ["teacher=other"],
        [f"the first that differs: {CLASSES[-1]} there, {CLASSES[0]} here"],
    ),
    "another teacher's stage 1": (
        lambda: (save_trained("good"), save_aligned("stage1", teacher=network(1))),
        ["stage=2"],
        ["stage1.ckpt aligned its student to another teacher", "Align to this one with stage=1 (or stage=both)"],
    ),
    "hash_num": (lambda: save_trained("good"), ["loss.hash_num=0"], ["loss.hash_num=0: must be at least 1"]),
    "std": (lambda: save_trained("good"), ["loss.std=-0.5"], ["loss.std=-0.5: must be above 0"]),
    "temperature": (
        lambda: save_trained("good"),
        ["loss=kl", "loss.temperature=-4"],
        ["loss.temperature=-4.0: must be above 0"],
    ),
    "logits in stage 1": (lambda: save_trained("good"), ["stage=1", "loss=kl"], ["loss=kl compares logits"]),
    "unequal widths": (
        lambda: save_trained("good"),
        ["student=resnet8x4", "student.projection=false"],
        ["resnet8x4's feature is 256 wide, the teacher's 64: student.projection=true bridges them"],
    ),
    "data of one stage": (lambda: None, ["stage1.dataset.num_train=8"], ["the same for both stages"]),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_refused(refuse: Refuse, case: str) -> None:
    save, words, parts = CASES[case]
    with conf_folder():
        save()
    message = refuse(*PAIR, *words)
    assert all(part in message for part in parts), message


def test_features_that_are_not_finite(tmp_path: Path) -> None:
    with chdir(tmp_path), conf_folder():
        save_broken()
    message = here(tmp_path, *PAIR, "stage=1", "loss=l2", code=2)
    assert "lshfm: error: the teacher checkpoints/broken.ckpt is broken: backbone.bn1.weight" in message
    assert not (tmp_path / "outputs").exists()


def test_eval_needs_a_teacher_of_its_data(refuse: Refuse) -> None:
    with conf_folder():
        save_trained("student")
        save_trained("other", dataset={"name": "triangles"})
        save_aligned("stage1")
    assert "was trained on triangles" in refuse("eval", "checkpoint=checkpoints/student.ckpt", "teacher=other")
    assert "its classifier is untrained; teacher=" in refuse("eval", "checkpoint=checkpoints/stage1.ckpt")
