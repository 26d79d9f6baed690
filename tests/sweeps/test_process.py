"""Jobs as processes: what they say is kept, and they end with the sweep in whatever way it ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lshfm.sweeps.process import Process

SLEEP = "import time; print('up', flush=True); time.sleep(600)"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module `job` that runs what its file says, in place of lshfm."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path / "job.py"


def wait(process: Process) -> int:
    while (code := process.poll()) is None:
        time.sleep(0.01)
    return code


def wait_for(path: Path, text: str) -> str:
    while text not in (said := path.read_text() if path.exists() else ""):
        time.sleep(0.01)
    return said


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("import sys; print('lshfm: error: a\\nb', file=sys.stderr); sys.exit(2)", "a"),
        ("raise KeyError('odd')", "KeyError: 'odd'"),
        ("import os; os.kill(os.getpid(), 9)", "ended by SIGKILL (no memory left?)"),
        ("import sys; sys.exit(3)", "exit code 3"),
    ],
)
def test_the_first_line_of_an_error(module: Path, tmp_path: Path, code: str, error: str) -> None:
    """Only of this call: the log has those of calls before, too."""
    (tmp_path / "1.log").write_text("lshfm: error: of another day\n")
    module.write_text(code)
    process = Process(["job"], tmp_path / "1.log", os.environ)
    wait(process)
    assert process.error() == error
    assert (tmp_path / "1.log").read_text().splitlines()[:2] == ["lshfm: error: of another day", "$ job"]


def test_an_order_to_end_reaches_the_job(module: Path, tmp_path: Path) -> None:
    module.write_text(SLEEP)
    process = Process(["job"], tmp_path / "1.log", os.environ)
    wait_for(tmp_path / "1.log", "up")
    process.stop()
    assert wait(process) == -signal.SIGTERM
    process.stop()  # to nobody


@pytest.mark.skipif(sys.platform != "linux", reason="the system call is Linux's")
def test_a_job_ends_with_a_sweep_that_was_killed(module: Path, tmp_path: Path) -> None:
    """By SIGTERM, on which a job saves; no second process meets it in its run folder."""
    module.write_text(  # not print: the signal may come while that writes
        "import os, signal, time\nsignal.signal(15, lambda *_: (os.write(1, b'saved'), os._exit(143)))\n" + SLEEP
    )
    parent = (
        "import os, time; from pathlib import Path; from lshfm.sweeps.process import Process\n"
        f"Process(['job'], Path({str(tmp_path / '1.log')!r}), os.environ); time.sleep(600)"
    )
    sweep = subprocess.Popen([sys.executable, "-c", parent])
    wait_for(tmp_path / "1.log", "up")
    sweep.kill()
    sweep.wait()
    assert "saved" in wait_for(tmp_path / "1.log", "saved")
