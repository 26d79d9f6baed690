"""Exported files that are none, or cut short, and the extra that is not installed."""

import builtins
from pathlib import Path
from typing import Any

import pytest

import lshfm
from lshfm.errors import InputError
from lshfm.shipping.optional import library


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("a.onnx", "ONNX Runtime cannot open it"),
        ("a.safetensors", "not a safetensors file, or a truncated one"),
    ],
)
def test_what_is_no_export(tmp_path: Path, name: str, fault: str) -> None:
    pytest.importorskip("onnxruntime")
    for content in (b"", b"\xff" * 64, b"{}"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=fault):
            lshfm.load(tmp_path / name)
    (tmp_path / name).unlink()
    with pytest.raises(InputError, match="no such file"):
        lshfm.load(tmp_path / name)


def test_safetensors_of_other_people_say_nothing_of_their_network(tmp_path: Path) -> None:
    save = pytest.importorskip("safetensors.numpy").save_file
    import numpy as np

    save({"fc.weight": np.zeros((2, 3), np.float32)}, tmp_path / "theirs.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="was not exported by lshfm"):
        lshfm.load(tmp_path / "theirs.safetensors")


@pytest.mark.parametrize("name", ["onnx", "onnxruntime", "onnxscript", "safetensors"])
def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    original = builtins.__import__

    def without(wanted: str, *arguments: Any, **keywords: Any) -> Any:
        if wanted == name:
            raise ModuleNotFoundError(f"No module named '{name}'")
        return original(wanted, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=rf"this needs {name} .*pip install 'lshfm\[export\]'"):
        library(name)
