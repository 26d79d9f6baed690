"""Files that earlier versions wrote (tests/samples) can still be used."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from lshfm.datasets.shapes import Shapes
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
