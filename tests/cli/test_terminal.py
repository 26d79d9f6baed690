"""What a terminal shows of the real command: an emulator is fed what the command writes to a pseudo-terminal."""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pyte
import pytest

from tests.cli.conftest import TINY

LSHFM = Path(sys.executable).with_name("lshfm")
ROWS = 60
BAR = re.compile(r"[━╸╺]{10} +\d+/\d+ +(-:--:--|\d+:\d\d:\d\d) .*")
PAUSING = """
import os, signal, sys
from lshfm import cli
from lshfm.engine.state import State

def end_epoch(self, evaluation, end=State.end_epoch):
    is_best = end(self, evaluation)
    os.kill(os.getpid(), signal.SIGSTOP)
    return is_best

State.end_epoch = end_epoch
sys.exit(cli.main())
"""  # lshfm, which waits for SIGCONT after each epoch
IS_BAR = re.compile(r"[━╸╺]{10}")
VARIABLES = {"FORCE_COLOR", "NO_COLOR", "COLUMNS", "LINES", "TTY_COMPATIBLE"}  # of this process, that rich would heed


class Terminal:
    """A terminal in which a command runs; `frames` are the rows in which it has drawn a bar, with their widths."""

    def __init__(self, width: int, words: tuple[str | Path, ...], folder: Path, environment: dict[str, str]) -> None:
        self.screen = pyte.Screen(width, ROWS)
        self.stream = pyte.ByteStream(self.screen)
        self.frames: list[tuple[int, str]] = []
        self.written = b""
        self.master, slave = pty.openpty()
        self._say_size(width)
        self.process = subprocess.Popen(
            words, cwd=folder, env=environment | {"TERM": "xterm-256color"}, stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True,
        )  # fmt: skip
        os.close(slave)

    def _say_size(self, width: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, width, 0, 0))

    def _feed(self, data: bytes) -> None:
        self.written += data
        for part in re.split(rb"(\r)", data):
            row = self.screen.display[self.screen.cursor.y].rstrip()
            if part == b"\r" and IS_BAR.search(row):  # whole, now that the cursor goes back
                self.frames.append((self.screen.columns, row))
            self.stream.feed(part)

    def read(self, seconds: float | None = None) -> bool:
        """Take what there is to be read, at most so long waited for; False if there is nothing."""
        if not select.select([self.master], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self.master, 65536)
        except OSError:  # nobody writes any more
            return False
        self._feed(data)
        return bool(data)

    def read_until_paused(self) -> None:
        """Read all that the command writes until it stops."""
        kinds = os.WSTOPPED | os.WEXITED | os.WNOWAIT | os.WNOHANG
        while not (end := os.waitid(os.P_PID, self.process.pid, kinds)):
            self.read(0.1)
        assert end.si_code == os.CLD_STOPPED, self.shown()
        while self.read(0):
            pass

    def go_on(self, width: int) -> None:
        """Make the window another, and let the command go on in it."""
        self._say_size(width)
        self.screen.resize(ROWS, width)
        self.process.send_signal(signal.SIGWINCH)
        self.process.send_signal(signal.SIGCONT)

    def end(self) -> int:
        """Read to the end; the exit code."""
        while self.read():
            pass
        return self.process.wait()

    def shown(self) -> list[str]:
        """Rows of the screen that are not empty."""
        return [row.rstrip() for row in self.screen.display if row.strip()]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        with contextlib.suppress(OSError):
            os.close(self.master)


Open = Callable[..., Terminal]


@pytest.fixture
def terminal(tmp_path: Path, environment: dict[str, str]) -> Iterator[Open]:
    """Run words in a terminal of so many columns."""
    opened: list[Terminal] = []

    def open_(width: int, *words: str | Path, **variables: str) -> Terminal:
        kept = {name: value for name, value in environment.items() if name not in VARIABLES}
        opened.append(Terminal(width, words, tmp_path, kept | variables))
        return opened[-1]

    yield open_
    for one in opened:
        one.close()


@pytest.mark.slow
def test_training_at_80_columns_and_others_meanwhile(terminal: Open) -> None:
    widths = (80, 40, 200, 120)
    it = terminal(widths[0], sys.executable, "-c", PAUSING, "train", *TINY, "epochs=4", "name=a", "gpus=[]")
    for width in (*widths[1:], 80):
        it.read_until_paused()
        it.go_on(width)
    assert it.end() == 0, it.shown()
    frames = it.frames
    assert {width for width, _ in frames} == set(widths)
    for width, row in frames:
        assert BAR.fullmatch(row), row
        assert len(row) <= width
    steps = [row for _, row in frames if " epoch " in row]
    assert re.search(r" 1/16 .* epoch 1/4  bce 0\.\d{4}  lr ", steps[0])  # a loss from the first step on
    assert any(row.endswith("…") for _, row in frames)
    assert not [row for row in it.shown() if IS_BAR.search(row)]  # it has been taken away
    assert it.shown()[-1].startswith("finished: voc2010 mAP ")


@pytest.mark.slow
def test_epochs_are_rows_under_one_head(terminal: Open) -> None:
    it = terminal(80, LSHFM, "train", *TINY, "epochs=2", "name=a", "gpus=[]")
    assert it.end() == 0, it.shown()
    rows = it.shown()
    head = rows.index("  epoch      bce       lr  voc2010 mAP     best  images/s  seconds")
    number = r" +\d+(\.\d+)?"
    for epoch, row in enumerate(rows[head + 1 : head + 3], start=1):
        assert re.fullmatch(rf"    {epoch}/2{number * 6}", row), row
        assert len(row) == len(rows[head])
    assert [row for row in rows if "epoch" in row] == [rows[head]]


@pytest.fixture
def slow_imports(tmp_path: Path) -> Path:
    """A folder whose `hydra`, the first large import, says that it is at it and goes no further."""
    folder = tmp_path / "early"
    folder.mkdir()
    (folder / "hydra.py").write_text("print('importing', flush=True)\nraise SystemExit(3)\n")
    return folder


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (("train",), ["lshfm 0.1.0 is starting", "importing"]),
        (("recipes",), ["lshfm 0.1.0 is starting", "importing"]),
        (("train", "--help"), ["importing"]),
        (("--version",), ["importing"]),
        ((), ["importing"]),
    ],
)
def test_a_sign_of_life_comes_before_all_imports(
    terminal: Open, slow_imports: Path, words: tuple[str, ...], shown: list[str]
) -> None:
    before = os.environ.get("PYTHONPATH", "")
    it = terminal(80, LSHFM, *words, PYTHONPATH=f"{slow_imports}{os.pathsep}{before}")
    assert it.end() == 3
    assert it.shown() == shown


def test_no_sign_of_life_without_a_terminal(slow_imports: Path, environment: dict[str, str]) -> None:
    path = f"{slow_imports}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    done = subprocess.run([LSHFM, "train"], env=environment | {"PYTHONPATH": path}, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (3, "importing\n", "")


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, b"\x1b[1;31mlshfm: error:\x1b[0m no such command: trian"),
        ({"NO_COLOR": "1"}, b"\x1b[1mlshfm: error:\x1b[0m no such command: trian"),
    ],
)
def test_an_error_stands_out(terminal: Open, variables: dict[str, str], expected: bytes) -> None:
    it = terminal(200, LSHFM, "trian", **variables)
    it.process.wait()
    it.end()
    assert expected in it.written
    assert "lshfm: error: no such command: trian (did you mean 'train'?). There are: train, " in it.shown()[-1]
