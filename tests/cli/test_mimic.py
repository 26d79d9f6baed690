"""mimic end to end on the embedded set: both stages, what they leave, and how they go on after a kill."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from lshfm.losses.lsh import HashFunctions
from tests.cli.conftest import here
from tests.cli.killing import HASHING, TARGETS, Trap
from tests.processes import Process

SMALL = (
    "dataset.num_train=64", "dataset.num_eval=32", "dataset.size=16", "batch_size=16", "lr=0.05", "log_every=1",
    "workers=0", "gpus=[]",
)  # fmt: skip
PAIR = ("teacher=resnet14", "student=resnet8")
MIMIC = ("mimic", *PAIR, *SMALL, "epochs=2", "loss.hash_num=24")
D, N, IMAGES = 64, 24, 64
ABOUT = {"version", "kind", "time", "seconds"}  # of a line of metrics.jsonl, beside its numbers


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained resnet14, and nothing else."""
    folder = tmp_path_factory.mktemp("teacher")
    here(folder, "train", "model=resnet14", *SMALL, "epochs=3")
    shutil.rmtree(folder / "outputs")
    return folder


def copied(teacher: Path, folder: Path) -> Path:
    shutil.copytree(teacher, folder, dirs_exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def both(teacher: Path, tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    """A folder where a user has run both stages, in a process of its own."""
    folder = copied(teacher, tmp_path_factory.mktemp("both"))
    process = Process(*MIMIC, folder=folder, environment=environment)
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    (folder / "said.txt").write_text(out)
    return folder


def run_folder(folder: Path, stage: int, part: str = "") -> Path:
    """The one run of a stage whose name holds `part`."""
    (found,) = (path for path in (folder / "outputs/mimic").glob(f"*_stage{stage}*") if part in path.name)
    return found


def checkpoint(folder: Path, stage: int, part: str = "") -> dict[str, Any]:
    """The finished checkpoint of a stage."""
    content: dict[str, Any] = torch.load(folder / "checkpoints" / f"{run_folder(folder, stage, part).name}.ckpt")
    return content


def results(folder: Path) -> Any:
    return json.loads((folder / "results.json").read_text())


def lines(folder: Path) -> list[dict[str, Any]]:
    written = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in ABOUT} for line in written]


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """All tensors in nested containers."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        yield from (tensor for item in value.values() for tensor in tensors(item))
    elif isinstance(value, list | tuple):
        yield from (tensor for item in value for tensor in tensors(item))


def assert_same_students(folder: Path, other: Path) -> None:
    """Equal weights to the bit, and equal losses at every step, in both stages."""
    for stage in (1, 2):
        ours, theirs = (checkpoint(place, stage)["model"] for place in (folder, other))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        logs = [lines(run_folder(place, stage)) for place in (folder, other)]
        for line in (line for log in logs for line in log):
            line.pop("images_per_second", None)
        assert logs[0] == logs[1]


def test_each_stage_has_its_folder_and_checkpoint(both: Path) -> None:
    for stage in (1, 2):
        name = run_folder(both, stage).name
        assert name.startswith(f"shapes_resnet14_resnet8_lshl2_s0_stage{stage}_")
        assert (both / "checkpoints" / f"{name}.ckpt").is_file()
        content = checkpoint(both, stage)
        assert (content["command"], content["stage"], content["loss"]) == ("mimic", str(stage), "lshl2")
    said = (both / "said.txt").read_text()
    assert "hash functions: 24 drawn" in said
    assert "hash functions: the 24 of stage 1" in said
    assert "feature width 64; weights: stage 1, checkpoints/" in said
    assert said.count("features beside the teacher's") == 2


def test_what_mimicking_does_is_seen_in_every_epoch(both: Path) -> None:
    for stage in (1, 2):
        folder = run_folder(both, stage)
        record = results(folder)
        mimicry = record["report"]["mimicry"]
        epochs = [line for line in lines(folder) if "score" in line]
        assert [line["epoch"] for line in epochs] == [1, 2]
        assert 0 < mimicry["angle"] < 180
        assert mimicry["relative_length"] > 0
        assert 0 < mimicry["hash_agreement"] <= 100
        assert epochs[-1]["angle"] == mimicry["angle"]
        assert epochs[-1]["length"] == mimicry["relative_length"]
        agreement = epochs[-1]["score"] if stage == 1 else epochs[-1]["hash agreement"]
        assert agreement == mimicry["hash_agreement"]
        assert record["history"] == [record["history"][0], epochs[-1]]
        assert mimicry["teacher_mAP"] == epochs[-1]["teacher mAP"] > 0
        assert record["teacher"]["name"] == "resnet14"
        assert ("mAP" in record["report"]) is (stage == 2)
    assert results(run_folder(both, 2))["score"] == epochs[-1]["score"]
    steps = [{*line} - {"epoch", "step", "lr", "images_per_second"} for line in lines(folder) if "step" in line]
    assert steps == [{"bce", "l2", "lsh"}] * 8


def test_w_is_stored_once_and_in_no_checkpoint(both: Path) -> None:
    for stage in (1, 2):
        folder = run_folder(both, stage)
        kept = torch.load(folder / "hash.ckpt")
        weights = kept["weights"]
        assert weights.shape == (N, D)
        for path in (folder / "last.ckpt", folder / "best.ckpt"):
            assert not any(tensor.shape == weights.shape for tensor in tensors(torch.load(path)))
        constants = torch.load(folder / "last.ckpt")["state"]["constants"]
        assert (constants["num"], constants["width"], constants["seed"], constants["rule"]) == (N, D, 0, "median")
        classifier = torch.load(next((both / "checkpoints").glob("*bce*")))["model"]["classifier.weight"]
        assert constants["std"] == pytest.approx(classifier.double().std().item())
        assert torch.equal(constants["bias"], kept["bias"])
        functions = HashFunctions(weights, kept["bias"], constants["std"], 0, "median")
        assert constants["sha256"] == functions.sha256()


def test_the_finished_student_is_a_plain_network(both: Path) -> None:
    alone = checkpoint(both, 2)
    network = alone.pop("model")
    assert not list(tensors(alone))
    assert not any(tensor.shape in {(N, D), (N,)} for tensor in network.values())
    assert {name.split(".")[0] for name in network} == {"backbone", "projection", "classifier"}
    assert network["projection.weight"].shape == (D, D)


def test_a_second_call_says_that_all_is_done(both: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in both.rglob("*") if path.is_file()}
    said = here(both, *MIMIC)
    assert said.count("is finished: ") == 2
    assert (said.count(" Stage 2 follows."), said.count(" Nothing to do; ")) == (1, 1)
    assert "stage1_" in said
    assert {path: path.stat().st_mtime_ns for path in both.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_one_stage_after_the_other_gives_the_same_bits_as_both(teacher: Path, both: Path, tmp_path: Path) -> None:
    folder = copied(teacher, tmp_path)
    said = "".join(here(folder, *MIMIC, stage) for stage in ("stage=1", "stage=2"))
    assert f"starting from stage 1 checkpoints/{run_folder(tmp_path, 1).name}.ckpt" in said
    assert_same_students(tmp_path, both)


def test_a_finished_stage_1_is_reused(both: Path, tmp_path: Path) -> None:
    folder = copied(both, tmp_path)
    said = here(folder, *MIMIC, "stage2.lr=0.02", "stage2.label_loss=asl", "stage2.epochs=1")
    assert said.count("is finished: ") == 1
    assert " Stage 2 follows." in said
    assert "Nothing to do" not in said
    assert "lr-0.02" in run_folder(folder, 2, "asl").name
    assert "asl" in lines(run_folder(folder, 2, "asl"))[0]
    assert not here(folder, *MIMIC, "stage=1").count("epoch ")


@pytest.mark.slow
def test_a_killed_run_continues_to_the_same_bits(
    teacher: Path, both: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    folder, said = copied(teacher, tmp_path), ""
    # In the pass over the images, and in the second epoch of stage 2, which has four steps an epoch.
    traps = {Trap(f"{HASHING}:drawn_bias"): -9, Trap(TARGETS, 6): -9, None: 0}
    for trap, code in traps.items():
        process = Process(*MIMIC, folder=folder, environment=environment, trap=trap)
        assert process.wait() == code
        said += process.communicate()[0]
    assert said.count("hash functions: 24 drawn") == 2  # the first time to no end
    assert said.count("continuing after epoch 1 of 2") == 1
    assert_same_students(folder, both)


def test_eval_shows_a_student_beside_its_teacher(both: Path) -> None:
    student = f"checkpoint=checkpoints/{run_folder(both, 2).name}.ckpt"
    said = here(both, "eval", student, "teacher=resnet14")
    folder = both / said.rpartition("written to ")[2].strip()
    assert folder.name != run_folder(both, 2).name  # which is that of an evaluation without a teacher
    evaluated = results(folder)
    assert evaluated["report"] == results(run_folder(both, 2))["report"]
    assert evaluated["teacher"] == results(run_folder(both, 2))["teacher"]
    assert "hash agreement" in said
    assert "voc2007 (11 points)" in said


def test_eval_of_a_stage_1_compares_features_alone(both: Path) -> None:
    aligned = f"checkpoint=checkpoints/{run_folder(both, 1).name}.ckpt"
    assert "its classifier is untrained; teacher=" in here(both, "eval", aligned, code=2)
    said = here(both, "eval", aligned, "teacher=resnet14", "name=aligned")
    assert "11 points" not in said
    evaluated = results(both / "outputs/eval/aligned")
    assert evaluated["report"] == results(run_folder(both, 1))["report"]
    assert evaluated["metric"] == "hash agreement"


@pytest.mark.slow
def test_widths_and_poolings_may_differ(tmp_path: Path) -> None:
    here(tmp_path, "train", "model=resnet8x4", "model.pool=GMP", *SMALL, "epochs=1")
    words = ["teacher=resnet8x4_GMP", "student=resnet8", "student.pool=GWP", "loss.hash_num=8"]
    here(tmp_path, "mimic", *words, *SMALL, "epochs=1")
    assert run_folder(tmp_path, 2).name.startswith("shapes_resnet8x4_GMP_resnet8_GWP_lshl2_s0_stage2")
    assert checkpoint(tmp_path, 2)["model"]["projection.weight"].shape == (256, 64)
    assert 0 < results(run_folder(tmp_path, 2))["report"]["mimicry"]["hash_agreement"] <= 100


def test_other_images_than_the_teachers_are_said(teacher: Path, tmp_path: Path) -> None:
    """The teacher saw 64 images, and these are the first 32 of them: no fault."""
    words = (
        "dataset.num_train=32",
        "dataset.num_eval=16",
        "epochs=1",
        "student.projection=false",
        "stage=2",
        "loss=l2",
    )
    said = here(copied(teacher, tmp_path), "mimic", *PAIR, *SMALL, *words)
    assert "warning: the teacher was trained on other images or labels" in said
    assert "projection.weight" not in checkpoint(tmp_path, 2)["model"]
