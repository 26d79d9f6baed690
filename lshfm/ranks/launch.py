"""Starts one rank a device, or joins the ranks that torchrun or srun started, and ends them.

How signals travel where a command starts its ranks itself:

- The parent is the command's process; torch's launcher runs within it. Each rank is a child in a session of its own,
  which a terminal's Ctrl-C does not reach.
- On SIGINT, SIGTERM, SIGHUP or SIGQUIT, but for those it ignores (nohup), the parent sends SIGTERM to every rank.
- A rank that trains finishes its step; all ranks save together and end with code 143 (engine.interrupts). At other
  times SIGTERM ends a rank at once, also while it waits for others (ranks.meeting, ranks.waiting).
- The parent waits up to SECONDS_TO_SAVE, kills what is left, and ends as its own signal ends a process (SIGINT: 130).
  A second signal sends a second SIGTERM, which ends ranks without saving; a third one kills them.
- When a rank fails, the launcher sends SIGTERM to the others, and SIGKILL to those still there 30 s later.
- When the parent is killed, every rank notices within a second and sends SIGTERM to itself.

Ranks that torchrun or srun started get their signals from it, and handle them as a single process does.
"""

import contextlib
import io
import json
import logging
import os
import pickle
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn
from uuid import uuid4

import torch
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from lshfm import console, outcome
from lshfm.errors import RunFailed
from lshfm.ranks.group import PeerLost, Place
from lshfm.ranks.meeting import has_store, set_handlers

SECONDS_TO_SAVE = 600  # that ranks have after a signal
HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)  # all reach the ranks as SIGTERM
WORKER = Path(__file__).with_name("worker.py")  # the program of a rank
ANSWER = "answer"  # in the folder of the ranks: what rank 0's work returned
LINGER = 10.0  # seconds that a rank which lost another one waits, so that the launcher sees that one fail first


def start(num: int, work: Callable[..., Any], *arguments: Any) -> Any:
    """Run `work(*arguments)` in `num` ranks, each a new process; returns what rank 0's does, which JSON can hold.

    work: a module's function. arguments: plain values.
    Raises the error or signal of the first rank to fail, whose message that rank has shown, once all have ended.
    """
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(SECONDS_TO_SAVE))
    handlers = {number: signal.getsignal(number) for number in HANDLED}
    heeded = [number for number, handler in handlers.items() if handler is not signal.SIG_IGN]  # nohup stays so
    stopped_by: list[int] = []
    answer: Any = None

    def stop(number: int, _frame: FrameType | None) -> NoReturn:
        stopped_by.append(number)
        raise SignalException("stopped", signal.SIGTERM)  # to ranks, for which Python itself would show a SIGINT

    with tempfile.TemporaryDirectory(prefix="lshfm-") as folder:
        Path(folder, "work").write_bytes(pickle.dumps(sys.path) + pickle.dumps((os.getpid(), work, arguments)))
        config = LaunchConfig(
            min_nodes=1, max_nodes=1, nproc_per_node=num, run_id=uuid4().hex, max_restarts=0, monitor_interval=0.1,
            rdzv_backend="c10d", rdzv_endpoint="localhost:0", local_addr="localhost",
            logs_specs=DefaultLogsSpecs(log_dir=folder), signals_to_handle="",
        )  # fmt: skip
        logging.disable(logging.CRITICAL)  # what the launcher says of a rank's end, its own message says better
        try:
            set_handlers(dict.fromkeys(heeded, stop))
            # A command, not a function: torch would have functions wait for each other, for ever if one is killed then.
            elastic_launch(config, sys.executable)("-P", str(WORKER), folder)
            answer = json.loads(Path(folder, ANSWER).read_text())
        except ChildFailedError as error:
            _, failure = error.get_first_failure()
            _raise(failure.local_rank, failure.exitcode)
        except SignalException:
            set_handlers(dict.fromkeys(heeded, signal.SIG_IGN))
            _kill_ranks(Path(folder))  # there are some only if further signals came
        finally:
            logging.disable(logging.NOTSET)
            set_handlers(handlers)
    if stopped_by:
        signal.raise_signal(stopped_by[0])  # the ranks have ended, and so this process does in its usual way
    return answer


def _raise(local_rank: int, code: int) -> NoReturn:
    if code < 0:
        name = signal.Signals(-code).name
        hint = " Is the memory full?" if name == "SIGKILL" else ""
        raise RunFailed(f"rank {local_rank} was killed by {name}.{hint} The same command continues the run.")
    outcome.raise_for(code)


def _kill_ranks(folder: Path) -> None:
    for path in folder.glob("*.pid"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(int(path.stem), signal.SIGKILL)  # the rank and its workers


def do_as_rank(folder: Path, parent: int, work: Callable[..., Any], arguments: tuple[Any, ...]) -> NoReturn:
    """Do a started rank's work and end its process; if the parent is killed, save and end as on SIGTERM."""
    threading.Thread(target=_stop_without, args=[parent, folder], daemon=True).start()
    console.set_up()

    def task() -> int:
        outcome.raise_on_sigterm()
        answer = work(*arguments)
        if os.environ["RANK"] == "0":
            (folder / ANSWER).write_text(json.dumps(answer))
        return 0

    leave(outcome_of(task))


def _stop_without(parent: int, folder: Path) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    shutil.rmtree(folder, ignore_errors=True)  # else the parent does it
    os.kill(os.getpid(), signal.SIGTERM)
    # A thread that waits within torch, say for the parent, does not handle the signal.
    time.sleep(SECONDS_TO_SAVE if torch.distributed.is_initialized() else LINGER)
    os._exit(1)


def outcome_of(task: Callable[[], int]) -> int:
    """The exit code of a rank's work. An unforeseen error's traceback is shown by the first rank alone."""

    def lingering() -> int:
        try:
            return task()
        except PeerLost:
            time.sleep(LINGER)
            raise

    try:
        return outcome.code_of(lingering)
    except Exception:  # noqa: BLE001 - a fault of ours
        sys.excepthook(*sys.exc_info())
        return 1


def leave_group(here: Place, code: int) -> NoReturn:
    """End a rank that torchrun or srun started; srun's rank 0, which holds the store, waits until others are done.

    After a signal, which srun sends to all, it does not.
    """
    is_signal = code in (128 + signal.SIGINT, 128 + signal.SIGTERM)
    with contextlib.suppress(KeyboardInterrupt, outcome.Terminated):
        time.sleep(LINGER if here.rank == 0 and "RANK" not in os.environ and not is_signal else 0)
    leave(code)


def leave_if_joined(code: int) -> None:
    """End this process at once if it joined other ranks: a thread that frees a tensor while Python ends would abort."""
    if has_store():
        leave(code)


def leave(code: int) -> NoReturn:
    """End this process at once: its threads and connections may be waiting for a rank that has failed."""
    for stream in filter(None, (sys.stdout, sys.stderr)):  # None: it was closed from the start
        with contextlib.suppress(OSError, io.UnsupportedOperation):
            stream.flush()
    os._exit(code)
