"""A command that the tests fork off their server is as one that a shell starts."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import TINY
from tests.processes import ROOT, Process, fresh

# A user's own network that writes down the process it is built in.
PROBE = """
import gc, json, logging, os, resource, signal, sys, threading
import torch

def probe(num_classes, into):
    main = sys.modules["__main__"]
    known = {
        "argv": sys.argv, "main": main.__file__, "path": sys.path, "folder": os.getcwd(), "mask": os.umask(0o22),
        "environment": dict(os.environ), "leads": os.getsid(0) == os.getpgid(0) == os.getpid(),
        "signals": {str(n): str(signal.getsignal(n)).partition(" at ")[0] for n in signal.valid_signals()},
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])), "warnings": sys.warnoptions,
        "files": sorted(os.listdir("/proc/self/fd")), "stdin": os.readlink("/proc/self/fd/0"),
        "threads": [t.name for t in threading.enumerate()], "torch": [torch.get_num_threads(), torch.initial_seed()],
        "limits": [resource.getrlimit(n) for n in range(10)], "gc": [gc.isenabled(), gc.get_threshold()],
        "loggers": [str(h) for name in (None, "lshfm") for h in logging.getLogger(name).handlers],
        "modules": sorted(name for name in sys.modules if name.partition(".")[0] == "lshfm"),
        "buffered": [str(type(s.buffer)) + str(s.line_buffering) for s in (sys.stdin, sys.stdout, sys.stderr)],
    }
    with open(into, "w") as file:
        json.dump(known, file)
    os._exit(7)
"""


@contextmanager
def ignored(*numbers: signal.Signals) -> Iterator[None]:
    """As under nohup, and in the background of a script."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """Of a command that ends with code 7."""
    (tmp_path / "probing.py").write_text(PROBE)
    (tmp_path / "conf/model").mkdir(parents=True)
    (tmp_path / "conf/model/probe.yaml").write_text("_target_: probing.probe\ninto: null\n")
    return ["train", *TINY[1:], "--config-dir", "conf", "model=probe", "model.into=known.json"]


def known(folder: Path) -> Any:
    return json.loads((folder / "known.json").read_text())


@pytest.mark.slow
def test_a_forked_command_finds_what_a_fresh_one_finds(
    tmp_path: Path, environment: dict[str, str], words: list[str]
) -> None:
    environment = environment | {"PYTHONPATH": f".{os.pathsep}{ROOT}", "ONLY": "here"}
    with ignored(signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
        forked = Process(*words, folder=tmp_path, environment=environment)
        assert forked.wait() == 7, forked.communicate()
        theirs = known(tmp_path)
        with fresh(*words, folder=tmp_path, environment=environment) as process:
            assert process.wait() == 7
    ours = known(tmp_path)
    theirs["path"].remove(str(ROOT))  # the server's own
    assert theirs == ours


def test_what_a_forked_command_says_comes_apart_and_signals_reach_it(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    good, bad = (Process(*w, folder=tmp_path, environment=environment) for w in (["--version"], ["versoin"]))
    assert good.wait() == 0
    out, err = good.communicate()
    assert (out.startswith("lshfm "), err) == (True, "")
    assert bad.wait() == 2
    out, err = bad.communicate()
    assert (out, err.startswith("lshfm: error: no such command")) == ("", True)
