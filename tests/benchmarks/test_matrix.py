"""make test-matrix: which interpreters it takes, and that nothing tried is nothing passed."""

import sys
from pathlib import Path

import pytest

from benchmarks import matrix


def test_an_interpreter_that_is_not_there_is_named_and_passes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["matrix", "python9.9"])
    assert matrix.main() == 1
    assert capsys.readouterr().out == "python9.9: not installed; PYTHONS='PATH ...' takes interpreters by their paths\n"


def test_a_command_that_does_not_run_is_no_interpreter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As those that pyenv leaves on the path."""
    shim = tmp_path / "python9.8"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert not matrix.is_there("python9.8")
    assert matrix.is_there(sys.executable)


def test_each_interpreter_meets_each_torch(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(matrix, "is_there", lambda name: name == "python3.11")
    monkeypatch.setattr(matrix, "passes", lambda python, torch: torch != "2.12.*")
    monkeypatch.setattr(sys, "argv", ["matrix", "python3.11", "python9.9", "--torch", "2.11.*", "--torch", "2.12.*"])
    assert matrix.main() == 1
    assert capsys.readouterr().out.splitlines() == [
        "python9.9: not installed; PYTHONS='PATH ...' takes interpreters by their paths",
        "python3.11, torch 2.11.*: passed", "python3.11, torch 2.12.*: FAILED",
    ]  # fmt: skip


def test_without_a_word_it_is_the_oldest_torch_and_the_newest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(matrix, "is_there", lambda _: True)
    monkeypatch.setattr(matrix, "passes", lambda *_: True)
    monkeypatch.setattr(sys, "argv", ["matrix", "python3.11"])
    assert matrix.main() == 0
    said = capsys.readouterr().out.splitlines()
    assert said == [f"python3.11, torch {matrix.oldest()}: passed", "python3.11, torch newest: passed"]
    assert f'"torch>={matrix.oldest().removesuffix(".*")}"' in (matrix.ROOT / "pyproject.toml").read_text()


def test_environments_lie_beside_each_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr(matrix, "ROOT", tmp_path)
    monkeypatch.setattr(matrix.subprocess, "run", lambda words, **_: ran.append([str(word) for word in words]))
    (tmp_path / ".venv-python3.12-2.11").mkdir()
    assert matrix.environment("python3.12", "2.11.*") == tmp_path / ".venv-python3.12-2.11/bin/python"
    assert ran[0][:3] == ["python3.12", "-m", "venv"]
    assert ran[1][-2:] == [matrix.EXTRAS, "torch==2.11.*"]
    ran.clear()
    matrix.environment("python3.12", "2.11.*")
    assert ran == []
