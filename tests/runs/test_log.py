"""log.txt: how it begins, what it keeps of what was said before there was a folder, and how it ends."""

import logging
import platform
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from lshfm import __version__
from lshfm.console import logger
from lshfm.errors import InputError, RunFailed
from lshfm.outcome import Terminated
from lshfm.ranks import device
from lshfm.ranks.group import PeerLost, is_main, rank
from lshfm.runs.log import errors_in, log_in, logged, opening, remembering
from tests.groups import ends_of, in_ranks

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """The log hears what is said, as in a command."""
    level = logger.level
    logger.setLevel(logging.INFO)
    yield
    logger.setLevel(level)


def lines(path: Path) -> list[str]:
    """A log's lines without their times, which every line but those of a long message begins with."""
    return [re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ", "", line) for line in path.read_text().splitlines()]


def test_a_file_begins_with_what_was_said_before_it_was_there(tmp_path: Path) -> None:
    with remembering("first"):
        logger.info("%s of %d", "part", 2)
        logger.warning("careful")
        with log_in(tmp_path / "log.txt"):
            logger.info("inside")
        logger.info("after")
    assert lines(tmp_path / "log.txt") == ["INFO first", "INFO part of 2", "WARNING careful", "INFO inside"]


def test_each_of_two_runs_begins_with_what_is_of_both_and_its_own(tmp_path: Path) -> None:
    with remembering("command"):
        logger.info("teacher")
        for stage in ("1", "2"):
            with remembering():
                logger.info("network of stage %s", stage)
                with log_in(tmp_path / stage):
                    logger.info("trains")
            logger.info("between")
    assert lines(tmp_path / "1") == ["INFO command", "INFO teacher", "INFO network of stage 1", "INFO trains"]
    assert lines(tmp_path / "2") == [
        "INFO command", "INFO teacher", "INFO between", "INFO network of stage 2", "INFO trains",
    ]  # fmt: skip


def test_nothing_is_remembered_from_one_command_to_the_next(tmp_path: Path) -> None:
    handlers = list(logger.handlers)
    with pytest.raises(RunFailed), remembering("one"):
        raise RunFailed("ended early")
    assert logger.handlers == handlers
    with remembering("two"), log_in(tmp_path / "log.txt"):
        pass
    with log_in(tmp_path / "log.txt"):  # of no command: nothing before it
        logger.info("alone")
    assert lines(tmp_path / "log.txt") == ["INFO two", "INFO alone"]


def test_the_opening() -> None:
    command, versions, machine = opening(["lshfm", "train", "gpus=[]", "name=a b"], CPU, "bf16")
    assert command == "$ lshfm train 'gpus=[]' 'name=a b'"
    assert versions.startswith(f"lshfm {__version__}")
    assert versions.partition(", python ")[2].startswith(platform.python_version())
    assert f"torch {torch.__version__}, torchvision " in versions
    assert machine == f"on {platform.node()}: {device.describe_hardware(torch.device('cpu'), 'bf16')['device']}, bf16"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (KeyboardInterrupt(), "INFO stopped by SIGINT"),
        (Terminated(), "INFO stopped by SIGTERM"),
        (RunFailed("the loss is nan\nlower lr"), "ERROR the loss is nan"),
        (InputError("no such file"), "ERROR no such file"),
        (PeerLost("lost"), "ERROR another rank has ended; its message says why"),
        (PermissionError(13, "Permission denied", "/a/b"), "ERROR Permission denied: /a/b"),
        (ZeroDivisionError("a fault of ours"), "ERROR Traceback (most recent call last):"),
    ],
)
def test_the_end_of_a_run_that_did_not_finish(tmp_path: Path, error: BaseException, line: str) -> None:
    with pytest.raises(type(error)), log_in(tmp_path / "log.txt"):
        raise error
    found = lines(tmp_path / "log.txt")
    assert found[0] == line
    assert found[-1].endswith(str(error).splitlines()[-1] if type(error) in (RunFailed, ZeroDivisionError) else line)


def test_a_finished_run_adds_nothing(tmp_path: Path) -> None:
    with log_in(tmp_path / "log.txt"):
        pass
    assert (tmp_path / "log.txt").read_text() == ""


def _failing(folder: str, own: bool) -> None:
    path = Path(folder) / "log.txt"
    with log_in(path) if is_main() else errors_in(path):
        if is_main():
            raise PeerLost("ended")
        error = RunFailed("nan here")
        error.of_all = not own
        raise error


@pytest.mark.parametrize("own", [True, False])
def test_another_ranks_own_error_is_in_the_log_of_rank_0(tmp_path: Path, own: bool) -> None:
    (tmp_path / "log.txt").touch()
    ends_of(2, _failing, str(tmp_path), own)
    expected = ["ERROR another rank has ended; its message says why"] + ["ERROR rank 1: nan here"] * own
    assert sorted(lines(tmp_path / "log.txt")) == expected


def _opened(folder: str) -> None:
    with logged(["lshfm", "train"], CPU, "fp32"), log_in(Path(folder) / str(rank())):
        pass


def test_rank_0_alone_says_what_runs(tmp_path: Path) -> None:
    in_ranks(2, _opened, str(tmp_path))
    assert lines(tmp_path / "0")[0] == "INFO $ lshfm train"
    assert lines(tmp_path / "1") == []
