"""The line on room on disks."""

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from lshfm.report import disk

Usage = namedtuple("Usage", "free")


@pytest.mark.parametrize(
    ("num_bytes", "said"), [(0, "0.0 MB"), (1_920_000, "1.9 MB"), (999_000_000, "999.0 MB"), (1_250_000_000, "1.2 GB")]
)
def test_sizes(num_bytes: int, said: str) -> None:
    assert disk.size(num_bytes) == said


def test_checkpoints_and_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: Usage(5_000_000_000))
    stores = [tmp_path / "a.npy", tmp_path / "b.npy"]
    for store in stores:
        store.write_bytes(bytes(150_000))
    alone = f"on disk: up to 2.0 MB of checkpoints in {tmp_path} (5.0 GB free)"
    assert disk.line(2_000_000, tmp_path, []) == alone
    assert disk.line(2_000_000, tmp_path, stores) == f"{alone}, 0.3 MB of pixels in {tmp_path}"
