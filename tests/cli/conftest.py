"""Running the real command: in a process as a user does, and in this process where only messages matter."""

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hydra.core.global_hydra import GlobalHydra

from lshfm import cli
from tests.cli.killing import Trap
from tests.fresh import forget_own_teachers
from tests.processes import Process

TINY = (
    "model=resnet8", "dataset.num_train=128", "dataset.num_eval=64", "dataset.size=16", "dataset.preset.epochs=3",
    "log_every=1",
)  # fmt: skip


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache of decoded pixels for all of this session's runs."""
    return tmp_path_factory.mktemp("stores")


@pytest.fixture(scope="session")
def environment(stores: Path) -> dict[str, str]:
    """A user's environment, with nothing of this machine's caches."""
    return os.environ | {"LSHFM_CACHE": str(stores), "TORCH_HOME": str(stores / "torch"), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    """A folder with `train *TINY name=a`, finished; to be copied."""
    folder = tmp_path_factory.mktemp("finished")
    process = Process("train", *TINY, "name=a", folder=folder, environment=environment)
    assert (process.wait(), process.communicate()[1]) == (0, "")
    return folder


@pytest.fixture
def has_run(finished: Path, tmp_path: Path) -> None:
    """In tmp_path the user has already run `train *TINY name=a`."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)


Start = Callable[..., Process]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def start(tmp_path: Path, environment: dict[str, str]) -> Iterator[Start]:
    """Start `lshfm WORDS...` in tmp_path, in a process group of its own, perhaps with a trap on its way."""
    started: list[Process] = []

    def start(*words: str, trap: Trap | None = None, **variables: str) -> Process:
        process = Process(*words, folder=tmp_path, environment=environment | variables, trap=trap)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()


@pytest.fixture
def run(start: Start) -> Run:
    """Run `lshfm WORDS...` to its end and check its exit code."""

    def run(*words: str, code: int = 0, **options: Any) -> "subprocess.CompletedProcess[str]":
        process = start(*words, **options)
        out, err = process.communicate()
        assert process.returncode == code, f"exit code {process.returncode}\n{out}\n{err}"
        assert "Traceback" not in err, err
        return subprocess.CompletedProcess(words, code, out, err)

    return run


Refuse = Callable[..., str]


@pytest.fixture
def refuse(tmp_path: Path, stores: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refuse:
    """The message with which a command line is refused; asserts that nothing was written."""
    monkeypatch.setenv("LSHFM_CACHE", str(stores))
    monkeypatch.setenv("TORCH_HOME", str(stores / "torch"))
    monkeypatch.chdir(tmp_path)

    def refuse(*words: str, code: int = 2) -> str:
        before = sorted(tmp_path.rglob("*"))
        monkeypatch.setattr(sys, "argv", ["lshfm", *words])
        GlobalHydra.instance().clear()
        assert cli.main() == code
        assert sorted(tmp_path.rglob("*")) == before
        captured = capsys.readouterr()
        assert captured.err.startswith("lshfm: error: ")
        assert "Traceback" not in captured.err
        return captured.err.removeprefix("lshfm: error: ").strip()

    return refuse


def here(folder: Path, *words: str, code: int = 0) -> str:
    """What `lshfm WORDS...` says, run in this process inside `folder`, without the start-up of a process."""
    GlobalHydra.instance().clear()
    forget_own_teachers()
    said = io.StringIO()
    cache = {"LSHFM_CACHE": str(folder / "stores"), "TORCH_HOME": str(folder / "torch")}
    with (
        chdir(folder),
        redirect_stdout(said),
        redirect_stderr(said),
        patch.object(sys, "argv", ["lshfm", *words]),
        patch.dict(os.environ, cache),
    ):
        ended = cli.main()
    assert ended == code, said.getvalue()
    assert "Traceback" not in said.getvalue()
    return said.getvalue()
