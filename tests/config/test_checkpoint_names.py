"""What the word for a checkpoint means: a file, or the name of a finished one, as lists of runs have it too."""

from pathlib import Path

import pytest

from lshfm.config.early import checkpoint_file

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
