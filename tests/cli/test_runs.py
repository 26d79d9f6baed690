"""Run folders: finished, unfinished, interrupted, killed, in the way."""

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cli.conftest import TINY, Refuse, Run, Start
from tests.cli.killing import STEP, WAITING_FOR_ANOTHER, Trap
from tests.processes import fresh

NAN_NETWORK = """
from lshfm.models.cifar import cifar_classifier

def bad_after(steps, num_classes):
    network = cifar_classifier("resnet8", num_classes)
    calls = iter(range(10**9))
    def spoil(module, inputs, output):
        return tuple(o * float("nan") for o in output) if module.training and next(calls) >= steps else output
    network.register_forward_hook(spoil)
    return network
"""

TIMES = {"time", "seconds", "images_per_second", "waiting"}  # of metrics.jsonl


def weights(folder: Path, name: str) -> dict[str, torch.Tensor]:
    content: dict[str, Any] = torch.load(folder / "checkpoints" / f"{name}.ckpt")
    return content["model"]


def assert_same_run(folder: Path, name: str, other: str) -> None:
    """Equal weights to the bit, equal losses at every step, equal results."""
    ours, theirs = weights(folder, name), weights(folder, other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    logs = []
    for run_name in (name, other):
        lines = (folder / "outputs/train" / run_name / "metrics.jsonl").read_text().splitlines()
        logs.append([{k: v for k, v in json.loads(line).items() if k not in TIMES} for line in lines])
    assert logs[0] == logs[1]
    results = [json.loads((folder / "outputs/train" / n / "results.json").read_text()) for n in (name, other)]
    assert results[0]["history"] == results[1]["history"]
    assert results[0]["report"] == results[1]["report"]


def wait_for(path: Path, process: Any) -> None:
    """Wait for a file of a process that runs on and on."""
    while not path.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)


@pytest.mark.parametrize(
    ("signum", "code"),
    [
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, -1, marks=pytest.mark.slow),
        (signal.SIGKILL, -9),
    ],
)
def test_a_stopped_run_continues_to_the_same_bits(
    has_run: None, start: Start, run: Run, tmp_path: Path, signum: signal.Signals, code: int
) -> None:
    process = start("train", *TINY, "name=parts", trap=Trap(STEP, 6, signal=signum))
    out, err = process.communicate()
    assert (process.returncode, err) == (code, "")
    assert ("stopped; the same command continues after epoch 1 and 2 steps" in out) is (code > 0)
    assert not (tmp_path / "checkpoints/parts.ckpt").exists()
    assert "continuing after epoch 1" in run("train", *TINY, "name=parts").stdout
    assert_same_run(tmp_path, "parts", "a")


def test_a_finished_run_says_so_and_nothing_else(has_run: None, run: Run, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    out = run("train", *TINY, "name=a", "workers=1", "dataset.cache=off", "log_every=7").stdout
    assert "is finished: voc2010 mAP" in out
    assert "overwrite=true" in out
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}

    message = run("train", *TINY, "name=a", "lr=0.2", code=2).stderr
    assert "lr: 0.1 there, 0.2 now" in message
    assert "name=NAME" in message
    assert "overwrite=true" in message
    old = weights(tmp_path, "a")
    run("train", *TINY, "name=a", "lr=0.2", "overwrite=true")
    assert not torch.equal(old["classifier.weight"], weights(tmp_path, "a")["classifier.weight"])


@pytest.mark.slow
def test_a_finished_checkpoint_is_not_replaced_unasked(has_run: None, run: Run, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "outputs")
    message = run("train", *TINY, "name=a", code=2).stderr
    assert "a.ckpt is there already" in message
    assert not (tmp_path / "outputs").exists()
    run("train", *TINY, "name=a", "overwrite=true")


@pytest.mark.slow
def test_a_checkpoint_of_another_run_is_neither_taken_for_its_own_nor_replaced(
    has_run: None, run: Run, start: Start, tmp_path: Path
) -> None:
    """Runs of one name in two output folders share a checkpoint's place."""
    checkpoint = tmp_path / "checkpoints/a.ckpt"
    other = ("train", *TINY, "name=a", "seed=1", "output_dir=other")
    process = start(*other, "checkpoint_dir=away", trap=Trap(STEP, 6, signal=signal.SIGSTOP))
    process.wait_until_stopped()
    (tmp_path / "away").mkdir()
    shutil.copy(checkpoint, tmp_path / "away/a.ckpt")
    process.send_signal(signal.SIGCONT)
    assert process.wait() == 2
    assert "away/a.ckpt is there already, from another run" in process.communicate()[1]
    assert (tmp_path / "away/a.ckpt").read_bytes() == checkpoint.read_bytes()

    run(*other, "checkpoint_dir=third")
    shutil.copy(tmp_path / "third/a.ckpt", checkpoint)
    message = run("train", *TINY, "name=a", code=2).stderr
    assert "checkpoints/a.ckpt is there already, from another run" in message
    assert (tmp_path / "outputs/train/a/results.json").exists()


def test_a_run_killed_between_checkpoint_and_results_finishes(has_run: None, run: Run, tmp_path: Path) -> None:
    results = tmp_path / "outputs/train/a/results.json"
    before = json.loads(results.read_text())
    results.unlink()
    (tmp_path / "outputs/train/a/.last.ckpt.tmp").write_bytes(b"half")
    run("train", *TINY, "name=a")
    after = json.loads(results.read_text())
    measured = {"training_seconds", "evaluation_seconds", "images_per_second", "peak_memory"}
    assert {k: v for k, v in after.items() if k not in measured} == {
        k: v for k, v in before.items() if k not in measured
    }
    assert not (tmp_path / "outputs/train/a/.last.ckpt.tmp").exists()


def test_the_validation_part_chooses_the_epoch(run: Run, tmp_path: Path) -> None:
    run("train", *TINY, "name=a", "dataset.holdout=0.25", "select=best")
    results = json.loads((tmp_path / "outputs/train/a/results.json").read_text())
    assert results["epoch"] == results["best"]["epoch"]
    assert results["best_chosen_on"] == "32 images held out of train"
    assert results["report"]["images"] == 64
    best = torch.load(tmp_path / "outputs/train/a/best.ckpt")["model"]
    assert all(torch.equal(best[name], tensor) for name, tensor in weights(tmp_path, "a").items())
    run("eval", "checkpoint=checkpoints/a.ckpt", "name=a")
    evaluated = json.loads((tmp_path / "outputs/eval/a/results.json").read_text())
    assert evaluated["report"] == results["report"]


def test_two_processes_do_not_share_a_run_folder(refuse: Refuse, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WAITING_FOR_ANOTHER, 0.0)
    process = start("train", *TINY, "name=a", trap=Trap(STEP, 6, signal=signal.SIGSTOP))
    process.wait_until_stopped()
    assert "another lshfm process is running in" in refuse("train", *TINY, "name=a")
    process.send_signal(signal.SIGCONT)
    assert process.wait() == 0


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_last_good_checkpoint(run: Run, tmp_path: Path) -> None:
    (tmp_path / "spoilt.py").write_text(NAN_NETWORK)
    (tmp_path / "conf/model").mkdir(parents=True)
    (tmp_path / "conf/model/spoilt.yaml").write_text("_target_: spoilt.bad_after\nsteps: 6\n")
    words = [*TINY[1:], "model=spoilt", "name=a", "log_every=50", "--config-dir", "conf"]
    message = run("train", *words, code=1, PYTHONPATH=".").stderr
    assert "bce = nan at epoch 2, step 3" in message
    ids = message.partition("Samples of that step: ")[2].partition(".\n")[0].split(", ")
    assert len(ids) == len(set(ids)) == 32
    assert torch.load(tmp_path / "outputs/train/a/last.ckpt")["state"]["epoch"] == 1
    assert not (tmp_path / "checkpoints").exists()


def test_hostile_checkpoints_are_refused(has_run: None, refuse: Refuse, tmp_path: Path) -> None:
    good = (tmp_path / "checkpoints/a.ckpt").read_bytes()

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "hacked"),))

    torch.save({"format": "lshfm", "version": 1, "model": Evil()}, tmp_path / "evil.ckpt")
    (tmp_path / "short.ckpt").write_bytes(good[: len(good) // 2])
    content = torch.load(tmp_path / "checkpoints/a.ckpt")
    content["model"]["classifier.weight"] = torch.zeros(3, 3)
    torch.save(content, tmp_path / "strange.ckpt")
    for name, text in (
        ("evil", "refused"),
        ("short", "truncated"),
        ("strange", "classifier.weight"),
        ("none", "no such"),
    ):
        assert text in refuse("eval", f"checkpoint={name}.ckpt")
    assert not (tmp_path / "hacked").exists()


@pytest.mark.slow
def test_output_that_nobody_reads_does_not_stop_a_run(tmp_path: Path, environment: dict[str, str]) -> None:
    with fresh("train", *TINY, "name=a", folder=tmp_path, environment=environment) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert (process.wait(), process.stderr.read()) == (0, "")
    assert (tmp_path / "checkpoints/a.ckpt").exists()


def test_a_checkpoint_taken_away_comes_back(has_run: None, run: Run, tmp_path: Path) -> None:
    before = weights(tmp_path, "a")
    (tmp_path / "checkpoints/a.ckpt").unlink()
    run("train", *TINY, "name=a")
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(tmp_path, "a").items())


@pytest.mark.slow
def test_class_names_do_not_lead_out_of_the_run_folder(run: Run, tmp_path: Path, test_data: Path) -> None:
    image = next((test_data / "VOCdevkit/VOC2007/JPEGImages").iterdir())
    lines = "\n".join(f'{{"path": "{image}", "labels": ["../../../../evil"], "id": "{i}"}}' for i in range(8))
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text(lines)
    words = ["dataset=manifest", "dataset.root=.", "dataset.size=32", "model=resnet8", "epochs=1", "batch_size=4"]
    run("train", *words, "name=a")
    run("eval", "checkpoint=checkpoints/a.ckpt", "dataset.devkit=true", "name=e")
    written = [path.relative_to(tmp_path).parts for path in tmp_path.rglob("*evil*")]
    assert [parts[:3] for parts in written] == [("outputs", "eval", "e")]
