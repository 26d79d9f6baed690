"""Exit codes, and the one message that goes with each."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lshfm import outcome
from lshfm.errors import InputError, RunFailed
from lshfm.outcome import Terminated, code_of, complain, raise_for


def ending_with(error: BaseException) -> int:
    def work() -> int:
        raise error

    return code_of(work)


def already_shown(error: Exception) -> Exception:
    error.shown = True  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (InputError("lr: is wrong"), 2, "lshfm: error: lr: is wrong\n"),
        (RunFailed("the disk is full"), 1, "lshfm: error: the disk is full\n"),
        (PermissionError(13, "Permission denied", "a/b"), 1, "lshfm: error: Permission denied: a/b\n"),
        (OSError("strange"), 1, "lshfm: error: strange: no file named\n"),
        (KeyboardInterrupt(), 130, ""),
        (Terminated(), 143, ""),
        (already_shown(InputError("lr: is wrong")), 2, ""),
        (already_shown(RunFailed("the disk is full")), 1, ""),
        (already_shown(OSError(13, "Permission denied")), 1, ""),
        (already_shown(ValueError("a fault, shown by another rank")), 1, ""),
    ],
)
def test_codes_and_messages(capsys: pytest.CaptureFixture[str], error: BaseException, code: int, message: str) -> None:
    assert ending_with(error) == code
    assert capsys.readouterr() == ("", message)


@pytest.mark.parametrize("code", [0, 2])
def test_work_has_a_code_of_its_own(code: int) -> None:
    assert code_of(lambda: code) == code


def test_a_fault_of_ours_is_no_message() -> None:
    with pytest.raises(ZeroDivisionError):
        ending_with(ZeroDivisionError())


def test_a_reader_that_has_gone_is_no_message(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert ending_with(BrokenPipeError(32, "Broken pipe")) == 1
        print("nobody reads this", flush=True)
    assert (tmp_path / "out").read_text() == ""


def test_an_error_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    error = RunFailed("full")
    complain(error)
    complain(error)
    assert capsys.readouterr().err == "lshfm: error: full\n"


@pytest.mark.parametrize(
    ("code", "kind"), [(1, RunFailed), (2, InputError), (3, RunFailed), (130, KeyboardInterrupt), (143, Terminated)]
)
def test_anothers_end_is_raised_here_without_a_message(
    capsys: pytest.CaptureFixture[str], code: int, kind: type[BaseException]
) -> None:
    with pytest.raises(kind) as caught:
        raise_for(code)
    assert ending_with(caught.value) == (1 if code == 3 else code)
    assert capsys.readouterr().err == ""


@pytest.fixture
def sigterm() -> Iterator[None]:
    """Handled afterwards as before."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("sigterm")
def test_sigterm_is_raised() -> None:
    outcome.raise_on_sigterm()
    with pytest.raises(Terminated):
        os.kill(os.getpid(), signal.SIGTERM)
