"""A disk that fills up ends a run with a message, keeps the checkpoint before, and costs nothing but the rest."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.cli.killing import HASHING, LINE, STORE, Trap
from tests.cli.test_kills import DATA, MIMIC, TRAIN, assert_same, folder, home, run
from tests.disks import small_disk

__all__ = ["folder", "home"]  # fixtures
pytestmark = pytest.mark.slow

WRITING = "pathlib:Path.write_bytes"
FULL = {
    "the first checkpoint": (TRAIN, Trap(WRITING, 1, "full"), 1, "the disk is full: cannot write"),
    "a later checkpoint": (TRAIN, Trap(WRITING, 7, "full"), 1, "(the file before it is intact)"),
    "identity.json": (TRAIN, Trap("pathlib:Path.write_text", 1, "full"), 1, "the disk is full: cannot write"),
    "metrics.jsonl": (TRAIN, Trap(LINE, 3, "full"), 1, "No space left on device"),
    "allocating a store": (TRAIN, Trap("os:posix_fallocate", 1, "full"), 1, "Writing the pixel store"),
    "filling a store": (TRAIN, Trap(f"{STORE}.fill", 1, "full"), 1, "Writing the pixel"),
    "hash functions": (MIMIC, Trap(f"{HASHING}:write_checkpoint", 1, "full"), 1, "No space left"),
}


@pytest.mark.parametrize("name", FULL)
def test_a_full_disk_is_said_and_lost_is_nothing(home: Path, folder: Path, name: str) -> None:
    words, trap, code, message = FULL[name]
    assert run(folder, *words, "name=a", trap=trap) == code
    said = (folder / "said").read_text()
    assert message in said
    assert said.count("lshfm: error:") == 1
    for checkpoint in folder.rglob("last.ckpt"):
        torch.load(checkpoint)
    assert not list(folder.glob("checkpoints/a*"))
    assert run(folder, *words, "name=a") == 0
    assert_same(home, folder, words[0], "whole")


@pytest.fixture(name="small_disk")
def _small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB."""
    with small_disk(tmp_path, "3m") as disk:
        yield disk


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_small_disk_keeps_the_checkpoint_before(home: Path, folder: Path, small_disk: Path, ranks: int) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(bytes(1_300_000))  # room for last.ckpt and best.ckpt, not for a second last.ckpt beside them
    words = ("train", "model=resnet8", *DATA[:-1], "ema=0.9", f"output_dir={small_disk}", "name=a", f"ranks={ranks}")
    assert run(folder, *words) == 1
    said = (folder / "said").read_text()
    assert "the disk is full: cannot write" in said
    assert said.count("lshfm: error:") == 1
    kept = (
        torch.load(small_disk / "train/a/last.ckpt")["state"] if (small_disk / "train/a/last.ckpt").exists() else None
    )
    filler.unlink()
    assert run(folder, *words) == 0
    said = (folder / "said").read_text()
    assert kept is None or f"continuing after epoch {kept['epoch']}" in said
    ours, whole = (
        torch.load(d / "checkpoints" / n)["model"]
        for d, n in ((folder, "a.ckpt"), (home, f"whole{'2' * (ranks == 2)}.ckpt"))
    )
    assert all(torch.equal(ours[key], whole[key]) for key in whole)
