"""Files that earlier versions wrote (tests/samples) can still be used."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lshfm.datasets.shapes import Shapes
from tests.arrays import arrays
from tests.cli.conftest import here

SAMPLES = Path(__file__).resolve().parents[1] / "samples"
WORDS = ("--config-dir", str(SAMPLES / "conf"), "gpus=[]", "workers=0", "dataset.cache=off")
TRAIN = ("train", *WORDS, "model=tiny", "dataset.num_train=64", "dataset.num_eval=32", "epochs=4", "name=run")


def test_a_finished_checkpoint_is_evaluated(tmp_path: Path) -> None:
    checkpoint = SAMPLES / "finished.ckpt"
    here(tmp_path, "eval", *WORDS, f"checkpoint={checkpoint}", "name=e")
    found = json.loads((tmp_path / "outputs/eval/e/results.json").read_text())
    assert found["score"] == pytest.approx(torch.load(checkpoint)["score"], abs=0.01)


def copied(tmp_path: Path) -> Path:
    """The sample's run, unfinished. Its data count as the same whatever Pillow draws the embedded set here."""
    run = tmp_path / "outputs/train/run"
    shutil.copytree(SAMPLES / "run", run)
    identity = json.loads((run / "identity.json").read_text())
    shapes = Shapes(num_train=64, num_eval=32)
    identity |= {f"data.{name}": shapes.split(s).fingerprint() for name, s in (("train", "train"), ("eval", "test"))}
    (run / "identity.json").write_text(json.dumps(identity))
    return run


def test_an_unfinished_run_is_continued(tmp_path: Path) -> None:
    run = copied(tmp_path)
    before = torch.load(run / "last.ckpt")["state"]["history"]
    assert "continuing after epoch 2 of 4 epochs" in here(tmp_path, *TRAIN)
    history = json.loads((run / "results.json").read_text())["history"]
    assert history[:2] == before
    assert [entry["score"] for entry in history[2:]] == pytest.approx([26.5066, 25.8146], abs=0.1)
    assert [json.loads(line)["epoch"] for line in (run / "metrics.jsonl").read_text().splitlines()] == [
        1, 1, 2, 2, 3, 3, 4, 4,
    ]  # fmt: skip


def test_a_run_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    run = copied(tmp_path)
    content = torch.load(run / "last.ckpt")
    torch.save(content | {"version": 99}, run / "last.ckpt")
    said = here(tmp_path, *TRAIN, code=2)
    assert "a newer lshfm wrote it: upgrade to go on with it" in said
    assert not (run / "results.json").exists()


KEPT = ("--config-dir", str(SAMPLES / "conf"), "gpus=[]", "workers=0", "dataset.cache=off")
RUN = (*KEPT, "dataset.num_train=64", "dataset.num_eval=32", "log_every=1", "batch_size=16")
NARROW = ("train", *RUN, "model=narrow")
STUDENT = ("mimic", *RUN, "teacher=teacher", "student=narrow", "student.width=6", "loss.hash_num=16", "epochs=2")


def fingerprints() -> dict[str, str]:
    shapes = Shapes(num_train=64, num_eval=32)
    return {f"data.{name}": shapes.split(s).fingerprint() for name, s in (("train", "train"), ("eval", "test"))}


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """The folders of version 2; their data count as the same whatever Pillow draws the embedded set here."""
    shutil.copytree(SAMPLES / "v2", tmp_path, dirs_exist_ok=True)
    now = fingerprints()
    for path in tmp_path.rglob("identity.json"):
        identity = json.loads(path.read_text())
        path.write_text(json.dumps(identity | now))
    for path in tmp_path.rglob("checkpoints/*.ckpt"):
        content = torch.load(path)
        if content["identity"] != content["identity"] | now:
            torch.save(content | {"identity": content["identity"] | now}, path)
    return tmp_path


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("train/unfinished", (*NARROW, "model.width=6", "epochs=2", "name=unfinished")),
        ("mimic/other_stage1", (*STUDENT, "stage=1", "name=other", "seed=1")),
        ("mimic/another_stage2", (*STUDENT, "stage=2", "name=another", "lr=0.05", "student.init=student_stage1")),
    ],
)
def test_unfinished_runs_are_continued(kept: Path, folder: str, words: tuple[str, ...]) -> None:
    run = kept / "outputs" / folder
    before = torch.load(run / "last.ckpt")["state"]["history"]
    lines = (run / "metrics.jsonl").read_text()
    assert "continuing after epoch 1 of 2 epochs" in here(kept, *words)
    assert json.loads((run / "results.json").read_text())["history"][:1] == before
    assert (run / "metrics.jsonl").read_text().startswith(lines)
    assert (kept / f"checkpoints/{run.name}.ckpt").is_file()


@pytest.mark.parametrize(
    "words",
    [
        (*NARROW, "epochs=2", "name=teacher"),
        (*STUDENT, "name=student"),
        (*NARROW, "epochs=1", "seed=1", "output_dir=swept", "checkpoint_dir=swept/checkpoints"),
    ],
    ids=["train", "both stages", "of a sweep, by its name"],
)
def test_finished_runs_say_so(kept: Path, words: tuple[str, ...]) -> None:
    before = {path: path.stat().st_mtime_ns for path in kept.rglob("*.ckpt")}
    said = here(kept, *words)
    assert said.count(" is finished: ") == (2 if "name=student" in words else 1)
    assert before == {path: path.stat().st_mtime_ns for path in kept.rglob("*.ckpt")}


@pytest.mark.parametrize("name", ["teacher", "student_stage1", "student_stage2"])
def test_checkpoints_evaluate_to_the_same(kept: Path, name: str) -> None:
    there = kept / "outputs/eval" / name
    results, predictions = json.loads((there / "results.json").read_text()), arrays(there / "predictions.npz")
    shutil.rmtree(there)
    here(
        kept, "eval", *KEPT, f"checkpoint=checkpoints/{name}.ckpt", f"name={name}",
        *(["teacher=teacher"] if name != "teacher" else []),
    )  # fmt: skip
    if results["data"] != fingerprints()["data.eval"]:
        pytest.skip("Pillow draws the embedded set otherwise here")
    now = arrays(there / "predictions.npz")
    assert now["ids"].tolist() == predictions["ids"].tolist()
    np.testing.assert_allclose(now["logits"], predictions["logits"], atol=1e-4)
    found = json.loads((there / "results.json").read_text())
    measured, before = numbers(found["report"]), numbers(results["report"])
    assert measured.keys() - before.keys() <= {"mimicry.hash_agreement_own_medians"}  # which came later
    for number, value in before.items():  # of 32,768 hash bits those next to 0 follow the processor's rounding
        assert measured[number] == pytest.approx(value, abs=0.1 if "hash_agreement" in number else 1e-4), number
    of_score = "mimicry.hash_agreement" if found["metric"] == "hash agreement" else "mAP"
    assert (found["metric"], found["score"]) == (results["metric"], measured[of_score])


def test_an_older_run_keeps_its_pixels_and_its_held_out_part(tmp_path: Path) -> None:
    """Its identity names neither rule; a choice of the best epoch, that there was none of, is given up at its end."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 16, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.jpg", exif=exif)
    rows = [f"{number}.jpg,{'x' if number in (0, 5) else ''}" for number in range(12)]
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").write_text("\n".join(["path,labels", *rows]))
    words = ("train", "dataset=manifest", f"dataset.root={tmp_path}", "dataset.unlabelled=negative", "workers=0")
    words += ("model=resnet8", "model.weights=none", "dataset.size=16", "batch_size=4", "dataset.holdout=0.25")
    words += ("epochs=1", "gpus=[]", "name=a")
    here(tmp_path, *words, "dataset.exif=false", "dataset.holdout_by=chance")
    run = tmp_path / "outputs/train/a"
    before = json.loads((run / "results.json").read_text())
    identity = json.loads((run / "identity.json").read_text())
    older = {key: value for key, value in identity.items() if key not in ("dataset.exif", "dataset.holdout_by")}
    (run / "identity.json").write_text(json.dumps(older | {"select": "best"}))
    (run / "results.json").unlink()
    (tmp_path / "checkpoints/a.ckpt").unlink()
    said = here(tmp_path, *words)
    assert "an older version began this run: it goes on with dataset.exif=False, dataset.holdout_by=chance" in said
    assert "changed since it was saved" not in said  # its pixels are the same
    after = json.loads((run / "results.json").read_text())
    assert [after[key] for key in ("score", "history", "report")] == [
        before[key] for key in ("score", "history", "report")
    ]
    assert "is finished" in here(tmp_path, *words)


def numbers(report: dict[str, Any], prefix: str = "") -> dict[str, float | None]:
    """All numbers of a report, under dotted names."""
    flat: dict[str, float | None] = {}
    for name, value in report.items():
        flat |= numbers(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return {name: value for name, value in flat.items() if value is None or isinstance(value, int | float)}
