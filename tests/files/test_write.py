"""A file is there as a whole or as it was before."""

import errno
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from lshfm.errors import RunFailed
from lshfm.files.write import TEMPORARY, remove_left_overs, replacing, write_checkpoint, write_json, write_text


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("old")
    return path


def alone(path: Path) -> bool:
    """Whether nothing lies beside the file."""
    return list(path.parent.iterdir()) == [path]


def test_the_file_appears_when_the_block_ends(old: Path) -> None:
    with replacing(old) as temporary:
        temporary.write_text("new")
        assert old.read_text() == "old"
        assert temporary.parent == old.parent  # on one file system, so that a rename is atomic
    assert old.read_text() == "new"
    assert alone(old)


def test_folders_are_made(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "file", "å")
    assert (tmp_path / "a" / "b" / "file").read_bytes() == "å".encode()


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_a_failing_writer_leaves_the_old_file_and_nothing_else(old: Path, failure: type[BaseException]) -> None:
    def fail(path: Path) -> None:
        path.write_text("half")
        raise failure

    with pytest.raises(failure), replacing(old) as temporary:
        fail(temporary)
    assert old.read_text() == "old"
    assert alone(old)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("where", ["write_text", "fsync"])
def test_a_full_disk(old: Path, monkeypatch: pytest.MonkeyPatch, number: int, where: str) -> None:
    def full(*_: object, **__: object) -> None:
        old.with_name(TEMPORARY.format(old.name)).touch()
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(*((Path, where, full) if where == "write_text" else (os, where, full)))
    with pytest.raises(RunFailed, match=r"the disk is full: cannot write .*file \(the file before it is intact\)"):
        write_text(old, "new")
    monkeypatch.undo()
    assert old.read_text() == "old"
    assert alone(old)


def test_a_full_disk_before_there_was_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(RunFailed, match="nothing was written"):
        write_checkpoint(tmp_path / "last.ckpt", {"a": torch.zeros(3)})
    assert list(tmp_path.iterdir()) == []


def test_another_fault_of_the_system_stays_what_it_is(old: Path) -> None:
    with pytest.raises(PermissionError), replacing(old):
        raise PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.parametrize("value", [math.nan, math.inf, [1, {"a": -math.inf}]])
def test_json_that_other_readers_refuse_is_not_written(old: Path, value: Any) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(old, {"score": value})
    assert old.read_text() == "old"
    assert alone(old)


def test_json_comes_back(tmp_path: Path) -> None:
    values = {"a": [1, 2.5, None, True], "b": {"c": "å"}}
    write_json(tmp_path / "x.json", values)
    assert json.loads((tmp_path / "x.json").read_text()) == values


def test_a_checkpoint_comes_back_as_data(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "x.ckpt", {"weights": {"a": torch.arange(3)}, "epoch": 3, "none": None})
    content = torch.load(tmp_path / "x.ckpt", weights_only=True)
    assert torch.equal(content["weights"]["a"], torch.arange(3))
    assert (content["epoch"], content["none"]) == (3, None)


def test_left_overs_go_and_the_rest_stays(tmp_path: Path) -> None:
    for name in ("last.ckpt", ".lock", "notes.tmp", TEMPORARY.format("last.ckpt"), TEMPORARY.format("results.json")):
        (tmp_path / name).touch()
    remove_left_overs(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "last.ckpt", "notes.tmp"]
