"""Keys that change no result make no other run: one that ran out of memory in evaluation goes on with less."""

import json
from pathlib import Path
from unittest.mock import patch

import torch

from lshfm.tasks import images as of_images
from tests.cli.conftest import here

TRAIN = (
    "train", "model=resnet8", "dataset.num_train=32", "dataset.num_eval=16", "dataset.size=16", "batch_size=16",
    "epochs=2", "workers=0", "gpus=[]",
)  # fmt: skip
OTHERWISE = ("eval_batch_size=5", "log_every=1", "checkpoint_minutes=1", "keep_last=2", "allow_test=true", "workers=1")


def test_an_evaluation_that_ran_out_of_memory_is_done_with_less(tmp_path: Path) -> None:
    def no_room(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError

    with patch.object(of_images, "predict", no_room):
        said = here(tmp_path, *TRAIN, "eval_batch_size=9", code=1)
    assert "out of memory in evaluation, at eval_batch_size=9: the same command with a smaller one continues" in said
    (run,) = (tmp_path / "outputs/train").iterdir()
    said = here(tmp_path, *TRAIN, *OTHERWISE)
    assert "continuing after epoch 0 and 2 steps of 2 epochs" in said  # no step is done again
    here(tmp_path, *TRAIN, "name=whole")
    found, whole = (json.loads((run.with_name(n) / "results.json").read_text()) for n in (run.name, "whole"))
    assert found["report"] == whole["report"]
    assert "is finished" in here(tmp_path, *TRAIN, "eval_batch_size=3")


def test_a_run_of_a_version_that_counted_them_goes_on(tmp_path: Path) -> None:
    """Under its name, which shows the key."""
    here(tmp_path, *TRAIN, "eval_batch_size=9")
    (run,) = (tmp_path / "outputs/train").iterdir()
    then = run.with_name(run.name.replace("batch_size-16", "batch_size-16_eval_batch_size-9"))
    run.rename(then)
    identity = json.loads((then / "identity.json").read_text())
    (then / "identity.json").write_text(json.dumps(identity | {"eval_batch_size": 9, "allow_test": False}))
    checkpoint = tmp_path / f"checkpoints/{run.name}.ckpt"
    checkpoint.rename(checkpoint.with_stem(then.name))
    said = here(tmp_path, *TRAIN, "eval_batch_size=9")
    assert f"an older version called this run outputs/train/{then.name}: it stays there" in said
    assert "is finished" in said
