"""speed=fast on a CPU: what is said, that it is a run of its own, and what it leaves."""

import json
from pathlib import Path

import pytest
import torch

from lshfm.ranks.device import settled
from tests.cli.conftest import Run, here

TRAIN = (
    "train", "model=resnet8", "dataset.num_train=32", "dataset.num_eval=16", "dataset.size=16", "batch_size=16",
    "epochs=1", "workers=0", "gpus=[]", "name=run",
)  # fmt: skip


def test_a_fast_run_is_another_than_an_exact_one(tmp_path: Path) -> None:
    said = here(tmp_path, *TRAIN, "speed=fast", "dataset.cache=device")
    arithmetic = settled("auto", torch.device("cpu"))
    assert f"speed=fast on the CPU: {arithmetic}, fused optimiser" in said
    assert "a CPU has no graphs to capture the step in: it goes operation by operation" in said
    assert "nothing is compiled: " in said
    assert "train: The store lies in memory: " in said
    run = tmp_path / "outputs/train/run"
    assert json.loads((run / "results.json").read_text())["hardware"]["arithmetic"] == arithmetic
    identity = json.loads((run / "identity.json").read_text())
    assert (identity["speed"], identity["precision"]) == ("fast", "auto")
    refusal = here(tmp_path, *TRAIN, code=2)
    assert "speed: fast there, exact now" in refusal
    assert "is finished" in here(tmp_path, *TRAIN, "speed=fast")
    here(tmp_path, "eval", "checkpoint=run", "gpus=[]")
    evaluated = json.loads((tmp_path / "outputs/eval/run/results.json").read_text())
    assert evaluated["hardware"]["arithmetic"] == arithmetic


def test_a_run_of_a_version_without_the_key_is_an_exact_one(tmp_path: Path) -> None:
    here(tmp_path, *TRAIN)
    file = tmp_path / "outputs/train/run/identity.json"
    identity = json.loads(file.read_text())
    assert identity.pop("speed") == "exact"
    file.write_text(json.dumps(identity))
    assert "is finished" in here(tmp_path, *TRAIN)
    assert "speed: None there, fast now" in here(tmp_path, *TRAIN, "speed=fast", code=2)


@pytest.mark.slow
def test_two_ranks_are_fast_together_and_do_what_one_does(run: Run, tmp_path: Path) -> None:
    """BatchNorm over groups of images that do not depend on the number of ranks."""
    words = (*TRAIN[:-1], "speed=fast", "precision=fp32", "bn_group_size=8", "epochs=2", "log_every=1")
    said = run(*words, "ranks=2", "name=two").stdout
    run(*words, "name=one")
    assert "speed=fast on the CPU: fp32, fused optimiser\n" in said
    for what in ("a CPU has no graphs to capture the step in", "nothing is compiled: for a CPU that takes minutes"):
        assert said.count(what) == 1
    two, one = (lines(tmp_path / f"outputs/train/{name}/metrics.jsonl") for name in ("two", "one"))
    assert len(one) == 4
    assert [line["bce"] for line in two] == pytest.approx([line["bce"] for line in one], rel=1e-4)
    models = [torch.load(tmp_path / f"checkpoints/{name}.ckpt")["model"] for name in ("two", "one")]
    for name, tensor in models[0].items():
        if "running" not in name:  # those of rank 0's images
            torch.testing.assert_close(tensor, models[1][name], rtol=1e-3, atol=1e-5)


def lines(path: Path) -> list[dict[str, float]]:
    """What was written of steps."""
    return [line for line in map(json.loads, path.read_text().splitlines()) if "step" in line]


@pytest.mark.parametrize("value", ["quick", "true"])
def test_another_speed_is_refused(value: str, tmp_path: Path) -> None:
    said = here(tmp_path, *TRAIN, f"speed={value}", code=2)
    assert f"speed={'True' if value == 'true' else value}: must be one of exact, fast" in said or "must be" in said
    assert not (tmp_path / "outputs").exists()
