"""Where a student starts: which stage 1 is taken, and what is said where none fits."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lshfm.commands.mimic import Stage
from lshfm.config.compose import Job
from lshfm.config.schema import Mimic
from lshfm.errors import InputError
from lshfm.files.read import digest, sha256
from lshfm.mimicking.starts import Start, find_start
from lshfm.mimicking.teachers import TeacherFile
from lshfm.models.weights import Loaded
from lshfm.runs.folder import differing_keys
from tests.jobs import changed_job, job, network, save_aligned, save_trained, split_of, task_of

pytestmark = pytest.mark.usefixtures("hydra")


def teacher(seed: int = 0) -> TeacherFile:
    model = network(seed)
    return TeacherFile(Path("checkpoints/resnet8.ckpt"), "resnet8", model, digest(model.state_dict()), None, None)


def second(loss: str = "lshl2", **student: Any) -> Job[Mimic]:
    """Stage 2 of resnet8 by `loss`, with a projection to the teacher's width."""
    keys = {f"student.{name}": value for name, value in ({"projection": 64} | student).items()}
    return changed_job(job("stage=2", f"loss={loss}"), keys)


def start(chosen: Job[Mimic], aligned: Path | None = None) -> Start:
    return find_start(chosen.settings, teacher(), split_of(chosen), aligned)


def built(found: Start, chosen: Job[Mimic]) -> tuple[nn.Module, Loaded | None]:
    """The job's student with these weights."""
    settings = chosen.settings
    return found.build(settings.student, task_of(settings), split_of(chosen).classes, settings.dataset.size)


def refused(chosen: Job[Mimic]) -> str:
    with pytest.raises(InputError) as caught:
        start(chosen)
    return str(caught.value)


def taken(chosen: Job[Mimic]) -> str:
    """The name of the stage 1 that is taken."""
    found = start(chosen)
    assert found.stage1 is not None
    return Path(found.weights).stem


def test_its_own_stage_1_is_found_and_said(said: list[str]) -> None:
    path = save_aligned("aligned")
    found = start(second())
    assert (found.weights, found.identity) == (str(path), sha256(path))
    assert said == ["starting from stage 1 checkpoints/aligned.ckpt"]
    chosen = second()
    student, loaded = built(found, chosen)
    assert loaded is None
    expected = network(7, projection=64).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in student.state_dict().items())


def test_the_recipes_loss_comes_before_the_same_loss_before_any() -> None:
    save_aligned("a_any", loss="l1")
    assert taken(second("lsh")) == "a_any"
    save_aligned("b_same", loss="lsh")
    assert taken(second("lsh")) == "b_same"
    save_aligned("c_published", loss="lshl2")
    assert taken(second("lsh")) == "b_same"
    published = {"2": {"lsh": {"stage1_loss": "lshl2"}}}
    assert taken(changed_job(second("lsh"), {"published": published})) == "c_published"


def test_a_loss_on_logits_takes_the_stage_1_that_both_would_have_made() -> None:
    for loss in ("l1", "l2"):
        save_aligned(f"by_{loss}", loss=loss)
    assert taken(second("kl")) == "by_l2"


def test_the_same_seed_comes_first_and_ties_are_listed() -> None:
    for seed in (0, 1, 2):
        save_aligned(f"seed{seed}", seed=seed)
    assert taken(changed_job(second(), {"seed": 1})) == "seed1"
    chosen = changed_job(second(), {"seed": 9})
    assert refused(chosen).splitlines() == [
        "several stage 1 fit; choose one:",
        *(f"  student.init=checkpoints/seed{seed}.ckpt" for seed in (0, 1, 2)),
    ]
    save_aligned("seed9_other_loss", loss="lshl2", seed=9)
    assert taken(chosen) == "seed9_other_loss"


@pytest.mark.parametrize(
    "other",
    [
        {"dataset": {"name": "triangles"}},
        {"dataset": {"size": 32}},
        {"dataset": {"mean": [0.5, 0.5, 0.5]}},
        {"projection": 32},
        {"identity": {"data.train": "0" * 64}},
        {"stage": "2"},
    ],
)
def test_a_stage_1_of_other_data_or_student_is_no_candidate(other: dict[str, Any]) -> None:
    save_aligned("other", **other)
    save_trained("teacher")
    message = refused(second())
    assert message.startswith("no stage 1 of resnet8 for resnet8 on shapes is in checkpoints: ")
    assert "stage=both (or stage=1) makes one; student.init=PATH, imagenet or none starts elsewhere" in message


@pytest.mark.parametrize("by_path", [False, True])
def test_another_teachers_stage_1_is_refused_with_how_to_proceed(by_path: bool) -> None:
    path = save_aligned("aligned", teacher=network(1))
    message = refused(second(init=str(path)) if by_path else second())
    assert "aligned.ckpt aligned its student to another teacher (checkpoints/its.ckpt) than " in message
    assert "Align to this one with stage=1 (or stage=both)" in message
    advice = message.partition("all the same: ")[2]
    assert advice == f"student.projection=false student.weights={path}"
    chosen = second(projection=None, weights=str(path))
    student, _ = built(start(chosen), chosen)
    assert torch.equal(student.backbone.conv1.weight, network(7, projection=64).backbone.conv1.weight)


def test_the_stage_1_just_made_is_taken_unasked(said: list[str]) -> None:
    made = save_aligned("made", seed=5)
    save_aligned("fits_better")
    found = start(second(), made)
    assert (found.weights, found.stage1 is not None) == (str(made), True)
    assert said == []


def test_a_stage_1_by_path() -> None:
    path = save_aligned("aligned")
    save_aligned("another")
    found = start(second(init=str(path)))
    assert found.stage1 is not None
    assert found.weights == str(path)
    assert "aligned another student than resnet8_GMP with its settings" in refused(second(init=str(path), pool="GMP"))


@pytest.mark.parametrize("init", ["imagenet", "none"])
def test_starting_elsewhere(init: str, said: list[str]) -> None:
    save_aligned("aligned")
    assert start(second(init=init)) == Start(init)
    assert said == []


def test_weights_that_were_never_released_are_said(said: list[str]) -> None:
    published = {"2": {"lshl2": {"unreleased": "KD.ckpt"}}}
    chosen = changed_job(second(init="imagenet"), {"published": published})
    assert start(chosen) == Start("imagenet")
    assert said == ["the published run started from KD.ckpt, which was never released; ImageNet weights instead"]


def test_any_other_file_gives_its_weights() -> None:
    path = save_trained("alone", model=network(3))
    found = start(second(init=str(path)))
    assert (found.weights, found.stage1, found.identity) == (str(path), None, sha256(path))
    chosen = second(init=str(path))
    student, loaded = built(found, chosen)
    assert loaded is not None
    assert loaded.missing == ["projection", "classifier"]
    assert torch.equal(student.backbone.conv1.weight, network(3).backbone.conv1.weight)
    assert start(second(init="nowhere.pth")).weights == "nowhere.pth"  # building the network says what is wrong


def test_a_teachers_constants_tell_runs_apart() -> None:
    """Its weights are the same; without any, an identity has the keys that it always had."""
    chosen, plain = job("stage=2", "loss=l2"), teacher()
    split = split_of(chosen)
    stages = [
        Stage(chosen, task_of(chosen.settings), each, split, split, torch.device("cpu"))
        for each in (plain, *(replace(plain, constants={"frozen_eps": eps}) for eps in (0.0, 1e-5)))
    ]
    alone, one, other = (stage._identity(Start("none")) for stage in stages)
    assert differing_keys(one, other) == ["teacher.frozen_eps"]
    assert [key for key in alone if key.startswith("teacher")] == ["teacher"]


def test_stage_1_and_a_student_without_a_projection_start_at_its_weights() -> None:
    save_aligned("aligned")
    first = changed_job(job("stage=1", "loss=l2"), {"student.projection": 64, "student.weights": "w.pth"})
    assert start(first) == Start("w.pth")
    assert start(second(projection=None, weights="w.pth")) == Start("w.pth")
    assert start(second(projection=None, weights=None)) == Start("none")
    assert start(second(projection=None, weights="w.pth", init="none")) == Start("none")
