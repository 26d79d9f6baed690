"""Checkpoint files are data: whole ones are read, all others are refused with one message."""

import contextlib
import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lshfm.errors import InputError
from lshfm.files.read import read_checkpoint

CONTENT = {"weight": torch.arange(6.0).reshape(2, 3), "epoch": 3, "names": ["a", "b"]}


def saved(content: Any, **how: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **how)
    return buffer.getvalue()


@pytest.mark.parametrize("zipped", [True, False])
def test_both_formats_are_read(tmp_path: Path, zipped: bool) -> None:
    torch.save(CONTENT, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    content = read_checkpoint(tmp_path / "a.pth")
    assert torch.equal(content.pop("weight"), CONTENT["weight"])
    assert content == {"epoch": 3, "names": ["a", "b"]}


def respelled(data: bytes, old: bytes, new: bytes) -> bytes:
    """The same checkpoint with another module name in its pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(buffer, "w") as target:
        for name in source.namelist():
            target.writestr(name, source.read(name).replace(old, new) if name.endswith(".pkl") else source.read(name))
    return buffer.getvalue()


@pytest.mark.parametrize("spelling", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_numpy_scalars_are_read_under_both_names(tmp_path: Path, spelling: bytes) -> None:
    scalar = np.float64(0.775)
    current = scalar.__reduce__()[0].__module__.encode()
    data = respelled(saved({"best_prec1": scalar}), current, spelling)
    assert any(
        spelling in zipfile.ZipFile(io.BytesIO(data)).read(n) for n in zipfile.ZipFile(io.BytesIO(data)).namelist()
    )
    (tmp_path / "a.ckpt").write_bytes(data)
    assert read_checkpoint(tmp_path / "a.ckpt") == {"best_prec1": 0.775}


def test_allowance_for_numpy_ends_with_the_reading(tmp_path: Path) -> None:
    torch.save({"best_prec1": np.float64(0.5)}, tmp_path / "a.ckpt")
    before = set(torch.serialization.get_safe_globals())
    read_checkpoint(tmp_path / "a.ckpt")
    assert set(torch.serialization.get_safe_globals()) == before


class Calls:
    """An object whose unpickling calls a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("function", "argument"),
    [(os.system, "touch {}"), (eval, "open({!r}, 'w')"), (os.mkdir, "{}"), (pickle.loads, "{}")],
)
def test_code_is_refused_and_never_runs(
    tmp_path: Path, zipped: bool, function: Callable[..., Any], argument: str
) -> None:
    trace = tmp_path / "trace"
    evil = Calls(function, argument.format(str(trace)))
    torch.save({"weight": torch.zeros(2), "x": evil}, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match=r"a\.pth: refused: it contains code or unknown objects"):
        read_checkpoint(tmp_path / "a.pth")
    assert not trace.exists()


def test_plain_pickle_with_code_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(pickle.dumps(Calls(os.mkdir, str(tmp_path / "trace")), protocol=2))
    with pytest.raises(InputError, match=r"a\.pth: refused"):
        read_checkpoint(tmp_path / "a.pth")
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"\x80\x02",
        b"<html>not found</html>",
        b"PK\x03\x04" + bytes(40),
        bytes(5000),
        b"version https://git",
    ],
)
def test_files_that_are_no_checkpoints(tmp_path: Path, junk: bytes) -> None:
    (tmp_path / "a.pth").write_bytes(junk)
    with pytest.raises(InputError, match=r"a\.pth: not a checkpoint"):
        read_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_cut_after_5000_bytes_is_called_truncated(tmp_path: Path, zipped: bool) -> None:
    whole = saved({"weight": torch.zeros(5000)}, _use_new_zipfile_serialization=zipped)
    (tmp_path / "a.pth").write_bytes(whole[:5000])
    with pytest.raises(InputError, match=r"a\.pth: not a checkpoint, or a truncated one"):
        read_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize("zipped", [True, False])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_truncated_files(tmp_path_factory: pytest.TempPathFactory, zipped: bool, data: st.DataObject) -> None:
    whole = saved(CONTENT, _use_new_zipfile_serialization=zipped)
    path = tmp_path_factory.getbasetemp() / "cut.pth"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(InputError, match=r"cut\.pth: "):
        read_checkpoint(path)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_altered_bytes_give_a_dictionary_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    altered = bytearray(saved(CONTENT, _use_new_zipfile_serialization=False))
    altered[data.draw(st.integers(0, len(altered) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "altered.pth"
    path.write_bytes(altered)
    with contextlib.suppress(InputError):
        assert isinstance(read_checkpoint(path), dict)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.pth: no such file"):
        read_checkpoint(tmp_path / "a.pth")
    with pytest.raises(InputError, match="is a folder"):
        read_checkpoint(tmp_path)


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.pth").touch()
    monkeypatch.setattr(torch, "load", denied)
    with pytest.raises(InputError, match=r"a\.pth: cannot be read: Permission denied"):
        read_checkpoint(tmp_path / "a.pth")


def test_something_else_than_a_dictionary(tmp_path: Path) -> None:
    torch.save([torch.zeros(2)], tmp_path / "a.pth")
    with pytest.raises(InputError, match="holds a list, not a dictionary of weights"):
        read_checkpoint(tmp_path / "a.pth")
