"""Rows by epoch and sample in a file: what is written is read, what is not there or damaged is told."""

import os
from pathlib import Path

import numpy as np
import pytest

from lshfm.errors import RunFailed
from lshfm.files.tape import Tape

NUM, WIDTH = 7, 3


def rows(*samples: int) -> np.ndarray:
    return np.array([[sample, sample / 3, -sample] for sample in samples], np.float32)


def test_rows_come_back_to_the_bit_in_any_order(tmp_path: Path) -> None:
    tape = Tape(tmp_path / "tape", NUM, WIDTH)
    tape.write(2, np.array([4, 0]), rows(4, 0))
    tape.write(2, np.array([6]), rows(6))
    tape.write(0, np.array([6]), rows(9))
    again = Tape(tmp_path / "tape", NUM, WIDTH)  # another process
    found, is_there = again.read(2, np.array([0, 6, 4, 6, 1]))
    assert is_there.tolist() == [True, True, True, True, False]
    assert np.array_equal(found[:4], rows(0, 6, 4, 6))
    assert np.array_equal(again.read(0, np.array([6]))[0], rows(9))
    assert [again.missing(epoch, np.arange(NUM)) for epoch in range(3)] == [6, 7, 4]
    assert again.missing(2, np.array([4, 4, 0])) == 0
    assert sorted(path.name for path in (tmp_path / "tape").iterdir()) == ["epoch-0001.f32", "epoch-0003.f32"]
    tape.close()


def test_a_damaged_row_is_none(tmp_path: Path) -> None:
    tape = Tape(tmp_path, NUM, WIDTH)
    tape.write(0, np.arange(NUM), rows(*range(NUM)))
    tape.close()
    with tape.path(0).open("r+b") as file:
        file.seek(2 * WIDTH * 4 + 1)
        file.write(b"\xff")
    assert tape.read(0, np.arange(NUM))[1].tolist() == [True, True, False, True, True, True, True]


def test_a_file_cut_short_is_none_and_is_made_anew(tmp_path: Path) -> None:
    tape = Tape(tmp_path, NUM, WIDTH)
    tape.write(0, np.arange(NUM), rows(*range(NUM)))
    tape.close()
    os.truncate(tape.path(0), 50)
    assert tape.missing(0, np.arange(NUM)) == NUM
    assert not tape.read(0, np.array([1]))[1].any()
    tape.write(0, np.array([1]), rows(1))
    assert tape.missing(0, np.arange(NUM)) == NUM - 1
    tape.close()


def test_several_writers_share_a_file(tmp_path: Path) -> None:
    """As ranks do: each with its own samples."""
    tapes = [Tape(tmp_path, NUM, WIDTH) for _ in range(2)]
    for tape, samples in zip(tapes, ([0, 2, 4, 6], [1, 3, 5]), strict=True):
        tape.write(1, np.array(samples), rows(*samples))
    found, is_there = Tape(tmp_path, NUM, WIDTH).read(1, np.arange(NUM))
    assert is_there.all()
    assert np.array_equal(found, rows(*range(NUM)))
    for tape in tapes:
        tape.close()


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(RunFailed, match=r"epoch-0001.f32 cannot be written: No space left on device. Make room"):
        Tape(tmp_path, NUM, WIDTH).write(0, np.array([1]), rows(1))
    assert list(tmp_path.iterdir()) == []
