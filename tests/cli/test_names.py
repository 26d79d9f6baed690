"""Where runs and evaluations go by their names, and how checkpoints are named."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from lshfm.engine.state import State
from tests.cli.conftest import here

COMMON = ("gpus=[]", "workers=0", "dataset.cache=off")
TRAIN = (
    "train", *COMMON, "model=resnet8", "dataset.num_train=32", "dataset.num_eval=16", "batch_size=16", "epochs=1",
)  # fmt: skip


@pytest.mark.slow
def test_evaluations_are_called_as_what_they_evaluate(tmp_path: Path) -> None:
    for name in ("a", "b.ckpt"):
        here(tmp_path, *TRAIN, f"name={name}", f"seed={len(name)}")
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["a.ckpt", "b.ckpt"]
    for run in "ab":
        here(tmp_path, "eval", *COMMON, f"checkpoint=outputs/train/{run}/best.ckpt")
        found = json.loads((tmp_path / f"outputs/eval/{run}_best/results.json").read_text())
        assert (found["name"], found["checkpoint"]) == (f"{run}_best", f"outputs/train/{run}/best.ckpt")
    for named in ("a", "a.ckpt", "checkpoints/a.ckpt"):
        here(tmp_path, "eval", *COMMON, f"checkpoint={named}")
        assert json.loads((tmp_path / "outputs/eval/a/results.json").read_text())["checkpoint"] == "checkpoints/a.ckpt"
    assert sorted(path.name for path in (tmp_path / "outputs/eval").iterdir()) == ["a", "a_best", "b_best"]

    (tmp_path / "a").mkdir()  # a folder is no checkpoint
    here(tmp_path, "eval", *COMMON, "checkpoint=a")
    shutil.move(tmp_path / "checkpoints", tmp_path / "others")
    here(tmp_path, "eval", *COMMON, "checkpoint=b", "checkpoint_dir=others")
    said = here(tmp_path, "eval", *COMMON, "checkpoint=c", "checkpoint_dir=others", code=2)
    assert "checkpoint=c: no such file, and no checkpoint in others is called so" in said
    assert "checkpoint=aa: no such file, and no checkpoint in others is called so (did you mean 'a'?)" in here(
        tmp_path, "eval", *COMMON, "checkpoint=aa", "checkpoint_dir=others", code=2
    )


def pictures(folder: Path, colour: str) -> None:
    """A data set of one's own, of one colour."""
    folder.mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (32, 32), colour).save(folder / f"{name}.png")
    for split in ("train", "test"):
        (folder / f"{split}.csv").write_text("path,labels\na.png,one\nb.png,one\n")


OWN = (
    "train", *COMMON, "dataset=manifest", "model=resnet8", "dataset.size=32", "batch_size=2", "epochs=1",
    "eval_batch_size=2",
)  # fmt: skip


def test_data_sets_of_ones_own_are_called_as_their_folders(tmp_path: Path) -> None:
    for name, colour in (("cats", "red"), ("dogs", "blue")):
        pictures(tmp_path / name, colour)
        here(tmp_path, *OWN, f"dataset.root={name}")
    settings = "resnet8_bce_s0_epochs-1_batch_size-2_size-32"
    names = [f"cats_{settings}", f"dogs_{settings}"]
    assert sorted(path.name for path in (tmp_path / "outputs/train").iterdir()) == names
    here(tmp_path, "eval", *COMMON, f"checkpoint={names[0]}", "dataset.root=dogs")
    assert (tmp_path / f"outputs/eval/{names[0]}_dataset-dogs/results.json").is_file()


@pytest.mark.slow
def test_runs_of_an_older_version_go_on_under_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures(tmp_path / "cats", "red")
    update = State.update

    def stopping(state: State, lr: float) -> None:
        update(state, lr)
        if state.epoch == 1:
            raise KeyboardInterrupt

    words = (*OWN, "dataset.root=cats", "epochs=2")
    with monkeypatch.context() as patch:
        patch.setattr(State, "update", stopping)
        here(tmp_path, *words, code=130)
    (new,) = (tmp_path / "outputs/train").iterdir()
    old = new.with_name("manifest_resnet8_bce_s0_epochs-2_batch_size-2_eval_batch_size-2_size-32")
    new.rename(old)
    said = here(tmp_path, *words)
    assert f"an older version called this run outputs/train/{old.name}: it stays there" in said
    assert "continuing after epoch 1 of 2 epochs" in said
    assert f"outputs/train/{old.name}: it stays there" in (old / "log.txt").read_text()
    assert (tmp_path / f"checkpoints/{old.name}.ckpt").is_file()
    assert f"outputs/train/{old.name} is finished" in here(tmp_path, *words)
    assert not new.exists()

    here(tmp_path, *words, "seed=1")  # another run is no concern of it
    assert len(list((tmp_path / "outputs/train").glob("cats_*_s1_*"))) == 1
