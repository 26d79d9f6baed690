"""What the word for a checkpoint means: a file, or the name of a finished one, as lists of runs have it too."""

from pathlib import Path

import pytest

from lshfm.config.checkpoint_names import checkpoint_file, missing_checkpoint

FOLDER = Path("checkpoints")


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ("a", "checkpoints/a.ckpt"),
        ("a.ckpt", "checkpoints/a.ckpt"),
        ("train/a", "checkpoints/a.ckpt"),
        ("mimic/a", "checkpoints/a.ckpt"),
        ("eval/a", "eval/a"),
        ("b", "checkpoints/b.ckpt"),  # which is not there, and said so
        ("b.ckpt", "b.ckpt"),
        ("c.pth", "c.pth"),
        ("train/c.pth", "train/c.pth"),
        ("../a", "../a"),
        ("checkpoints/a.ckpt", "checkpoints/a.ckpt"),
    ],
)
def test_names_and_paths(named: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    FOLDER.mkdir()
    (FOLDER / "a.ckpt").touch()
    assert checkpoint_file(named, FOLDER) == Path(expected)


def test_a_file_that_is_there_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for file in (FOLDER / "a.ckpt", Path("train/a")):
        file.parent.mkdir()
        file.touch()
    assert checkpoint_file("train/a", FOLDER) == Path("train/a")


def missing(named: str) -> str:
    return str(missing_checkpoint(checkpoint_file(named, FOLDER), named, Path("outputs")))


@pytest.mark.parametrize("run", ["train/mine", "mimic/mine", "mimic/mine_stage2"])
def test_a_run_that_is_still_to_write_it_is_named(run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("outputs", run)
    folder.mkdir(parents=True)
    (folder / "identity.json").touch()
    said = missing("mine")
    assert said == (
        f"checkpoint=mine: the run outputs/{run} is unfinished, so its checkpoint is still to come. The command that "
        f"began it, the first line of outputs/{run}/log.txt, continues it"
    )
    (folder / "last.ckpt").touch()
    assert missing("mine") == f"{said}; checkpoint=outputs/{run}/last.ckpt takes the network as it is now"
    (folder / "results.json").touch()  # finished, and the checkpoint lies elsewhere
    assert missing("mine") == "checkpoint=mine: no such file, and no checkpoint in checkpoints is called so"


def test_a_list_of_names_that_is_cut_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    FOLDER.mkdir()
    for name in ("aa", "bb", "cc"):
        (FOLDER / f"{name}.ckpt").touch()
    assert missing("zzz").endswith("is called so; there are: aa, bb, cc")
    (FOLDER / "dd.ckpt").touch()
    assert missing("zzz").endswith("is called so; there are: aa, bb, cc and 1 more")
    assert missing("aaa").endswith("is called so (did you mean 'aa'?)")
