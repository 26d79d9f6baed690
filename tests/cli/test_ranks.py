"""The command in several ranks, which it starts itself or torchrun does: one run, one log, one message."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributed import HashStore

from lshfm import cli
from lshfm.ranks import launch, meeting
from tests.arrays import arrays
from tests.cli.conftest import TINY, Run, Start
from tests.cli.test_runs import assert_same_run, wait_for
from tests.processes import ROOT, Process, usual_signals

TRAIN = ("train", *TINY, "gpus=[]", "workers=0")
TWO = "ranks=2"
# A resnet8 that goes wrong in one rank after some steps of training; named by what it does then.
SPOILT = """
import os, signal, time
from pathlib import Path
from lshfm.models.cifar import cifar_classifier

def stop(output):
    if not (armed := Path("armed")).exists():  # a network to train like any other
        return output
    target, number = armed.read_text().split()
    armed.unlink()
    before, arrived = signal.getsignal(signal.SIGTERM), []
    signal.signal(signal.SIGTERM, lambda *signalled: (arrived.append(1), before(*signalled)))
    os.kill(os.getppid() if target == "parent" else os.getpid(), int(number))
    while not arrived:  # so that the run does not end before its parent has passed it on
        time.sleep(0.01)
    signal.signal(signal.SIGTERM, before)
    return output

FAULTS = {
    "spoil": lambda output: tuple(o * float("nan") for o in output),
    "file": lambda output: open("not/there"),
    "fault": lambda output: 1 // 0,
    "stop": stop,
    "hang": lambda output: __import__("time").sleep(600),
}

def spoilt(fault, rank, steps, num_classes):
    network = cifar_classifier("resnet8", num_classes)
    calls = iter(range(10**9))
    def spoil(module, inputs, output):
        is_time = module.training and next(calls) >= steps and os.environ.get("RANK", "0") == str(rank)
        return FAULTS[fault](output) if is_time else output
    network.register_forward_hook(spoil)
    return network
"""


def results(folder: Path, name: str, command: str = "train") -> Any:
    return json.loads((folder / "outputs" / command / name / "results.json").read_text())


def log(folder: Path, name: str) -> str:
    return (folder / "outputs/train" / name / "log.txt").read_text()


def children(pid: int) -> list[int]:
    """The processes that a process has started, in the order in which it did."""
    found = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return sorted(child for child in found if _parent(child) == pid)


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return -1


def ranks_of(process: Process) -> list[int]:
    """The ranks that a command has started, rank 0 first."""
    return [pid for pid in children(process.pid) if b"/worker.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def is_running(pid: int) -> bool:
    return _parent(pid) >= 0


def ended(process: Process) -> tuple[int | None, str]:
    """Exit code and errors of a command that ends by itself."""
    out, err = process.communicate()
    assert "Traceback" not in out
    return process.returncode, err


def test_two_ranks_train_one_run(run: Run, tmp_path: Path) -> None:
    out = run(*TRAIN, TWO, "name=a").stdout
    host = socket.gethostname()
    assert f"rank 0: CPU of {host}; rank 1: CPU of {host}\n" in out
    assert "batches of 32 images, 16 a rank; BatchNorm over each rank's own images\n" in out
    assert out.count("epoch 3/3") == log(tmp_path, "a").count("epoch 3/3") == 1
    assert [path.name for path in tmp_path.glob("outputs/*/*")] == ["a"]
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["a.ckpt"]
    found = results(tmp_path, "a")
    assert (found["hardware"]["ranks"], found["report"]["images"]) == (2, 64)
    lines = [json.loads(line) for line in (tmp_path / "outputs/train/a/metrics.jsonl").read_text().splitlines()]
    assert [line.get("step") for line in lines] == [1, 2, 3, 4, None] * 3
    assert {line["waiting"]["for_rank"] for line in lines if "step" in line} <= {0, 1}


@pytest.mark.slow
def test_any_number_of_ranks_evaluates_to_the_same_bits(run: Run, tmp_path: Path) -> None:
    run(*TRAIN, TWO, "name=a")
    evaluate = ("eval", "checkpoint=checkpoints/a.ckpt", "gpus=[]", "eval_batch_size=10")
    for ranks in (1, 2, 3):
        out = run(*evaluate, f"ranks={ranks}", f"name=by{ranks}").stdout
        assert out.count("written to outputs/eval") == 1
    assert results(tmp_path, "by1", "eval")["report"]["mAP"] == results(tmp_path, "a")["report"]["mAP"]
    alone = arrays(tmp_path / "outputs/eval/by1/predictions.npz")
    for ranks in (2, 3):
        assert results(tmp_path, f"by{ranks}", "eval")["report"] == results(tmp_path, "by1", "eval")["report"]
        together = arrays(tmp_path / f"outputs/eval/by{ranks}/predictions.npz")
        assert all(np.array_equal(together[name], alone[name]) for name in alone)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_stopped_run_continues_to_the_same_bits(
    run: Run, start: Start, tmp_path: Path, own_network: list[str], number: signal.Signals, code: int
) -> None:
    settings = [*stopping(0), *own_network, TWO, "ema=0.9"]
    run(*settings, "name=whole", PYTHONPATH=".")
    (tmp_path / "armed").write_text(f"parent {number}")
    returned, err = ended(start(*settings, "name=parts", PYTHONPATH="."))
    assert returned == code
    if code > 0:
        assert err == ""  # of a killed parent Python itself says something
        assert log(tmp_path, "parts").count("stopped; the same command continues after epoch 1") == 1
    assert not (tmp_path / "checkpoints/parts.ckpt").exists()
    assert "continuing after epoch 1" in run(*settings, "name=parts", PYTHONPATH=".").stdout
    assert_same_run(tmp_path, "parts", "whole")


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_reaches_the_ranks_once(start: Start, tmp_path: Path) -> None:
    """It goes to the whole process group."""
    process = start(*TRAIN, TWO, "epochs=100000", "name=a")
    wait_for(tmp_path / "outputs/train/a/last.ckpt", process)
    os.killpg(process.pid, signal.SIGINT)
    assert ended(process) == (130, "")
    state = torch.load(tmp_path / "outputs/train/a/last.ckpt")["state"]
    assert f"stopped; the same command continues after epoch {state['epoch']}" in log(tmp_path, "a")


def started(process: Process) -> list[int]:
    """The two ranks of a command, as soon as they are there."""
    while len(ranks := ranks_of(process)) < 2:
        assert process.wait(0.01) is None, process.communicate()
    return ranks


@pytest.mark.slow
@pytest.mark.parametrize("later", [0.0, 3.0])
def test_ranks_whose_parent_is_killed_as_they_start_leave(run: Run, start: Start, tmp_path: Path, later: float) -> None:
    settings = [*TRAIN, TWO, "name=a"]
    process = start(*settings, TMPDIR=str(tmp_path))
    ranks = started(process)
    time.sleep(later)  # at whatever stage of their start that finds them
    process.send_signal(signal.SIGKILL)
    process.wait()
    while any(map(is_running, ranks)):
        time.sleep(0.1)
    assert list(tmp_path.glob("lshfm-*")) == [] or not later  # at once, nobody is there yet to clear it away
    assert "epoch 3/3" in run(*settings).stdout


@pytest.mark.slow
@pytest.mark.parametrize("later", [0.0, 1.5, 4.0])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGHUP, -signal.SIGHUP)])
def test_a_signal_while_ranks_start_ends_them_silently(
    start: Start, tmp_path: Path, number: signal.Signals, code: int, later: float
) -> None:
    process = start(*TRAIN, TWO, "epochs=100000", "name=a", TMPDIR=str(tmp_path))
    ranks = started(process)
    time.sleep(later)
    process.send_signal(number)
    assert ended(process) == (code, "")
    assert not any(map(is_running, ranks))
    assert list(tmp_path.glob("lshfm-*")) == []


@pytest.mark.slow
def test_a_rank_that_waits_for_one_that_never_joins_ends_with_the_command(start: Start, tmp_path: Path) -> None:
    """It waits within torch, which does not let Python handle the signal, and for up to hours."""
    process = start(*TRAIN, TWO, "epochs=100000", "name=a", TMPDIR=str(tmp_path))
    late, waiting = started(process)
    os.kill(late, signal.SIGSTOP)
    before = -1.0
    while not (has_sockets(waiting) and seconds_of(waiting) == before):  # connected, and with nothing left to compute
        before = seconds_of(waiting)
        time.sleep(1)
    process.send_signal(signal.SIGINT)
    os.kill(late, signal.SIGCONT)
    assert ended(process) == (130, "")
    assert not any(map(is_running, (late, waiting)))


def has_sockets(pid: int) -> bool:
    return any(is_socket(file) for file in Path(f"/proc/{pid}/fd").iterdir())


def is_socket(descriptor: Path) -> bool:
    try:
        return "socket" in str(descriptor.readlink())
    except FileNotFoundError:  # closed since it was listed
        return False


def seconds_of(pid: int) -> float:
    """The time that a process has computed."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@pytest.mark.slow
def test_closed_streams_are_no_failure(tmp_path: Path, environment: dict[str, str]) -> None:
    """Whoever closes them wants to hear nothing."""
    words = [str(Path(sys.executable).with_name("lshfm")), *TRAIN, TWO, "epochs=1", "name=a"]
    closed = subprocess.run(
        ["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *words], cwd=tmp_path, env=environment, preexec_fn=usual_signals
    )
    assert closed.returncode == 0
    assert results(tmp_path, "a")["report"]["images"] == 64


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_rank_ends_the_run_with_one_message(
    run: Run, start: Start, tmp_path: Path, own_network: list[str], victim: int
) -> None:
    settings = [*stopping(victim), *own_network, TWO, "name=a"]
    (tmp_path / "armed").write_text(f"self {signal.SIGKILL}")
    message = f"rank {victim} was killed by SIGKILL. Is the memory full? The same command continues the run."
    process = start(*settings, PYTHONPATH=".")
    assert ended(process) == (1, f"lshfm: error: {message}\n")
    assert "continuing after epoch 1" in run(*settings, PYTHONPATH=".").stdout


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_rank_killed_when_all_is_done_keeps_nobody_waiting(
    run: Run, start: Start, tmp_path: Path, victim: int
) -> None:
    settings = [*TRAIN, TWO, "name=a"]
    process = start(*settings)
    pid = started(process)[victim]
    wait_for(tmp_path / "outputs/train/a/results.json", process)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    assert ended(process)[0] in (0, 1)
    assert not children(process.pid)
    assert "a is finished: " in run(*settings).stdout


@pytest.fixture
def own_network(tmp_path: Path) -> list[str]:
    """The words that a network of the user's own needs; it is called spoilt."""
    (tmp_path / "own.py").write_text(SPOILT)
    (tmp_path / "conf/model").mkdir(parents=True)
    node = "_target_: own.spoilt\nfault: none\nrank: 0\nsteps: 1000000\n"
    (tmp_path / "conf/model/spoilt.yaml").write_text(node)
    return ["--config-dir", "conf", "model=spoilt"]


def stopping(rank: int) -> list[str]:
    """A rank finds in its second epoch whether there is a file `armed`, with whom to send which signal."""
    return ["train", *TINY[1:], "gpus=[]", "workers=0", "model.fault=stop", f"model.rank={rank}", "model.steps=5"]


def spoilt(fault: str, rank: int) -> list[str]:
    return ["train", *TINY[1:], "gpus=[]", TWO, f"model.fault={fault}", f"model.rank={rank}", "model.steps=6", "name=a"]


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("spoil", "rank {}: the loss is not finite: bce = nan at epoch 2, step 3"),
        ("file", "No such file or directory: not/there"),
    ],
)
def test_an_error_in_one_rank_ends_the_run_with_one_message(
    start: Start, tmp_path: Path, own_network: list[str], rank: int, fault: str, message: str
) -> None:
    process = start(*spoilt(fault, rank), *own_network, PYTHONPATH=".")
    code, err = ended(process)
    assert code == 1
    assert err.startswith(f"lshfm: error: {message.format(rank)}")
    assert err.count("lshfm: error: ") == 1
    assert "Traceback" not in err
    if fault == "spoil":
        ids = err.partition("Samples of that step: ")[2].partition(".\n")[0].split(", ")
        assert len(ids) == len(set(ids)) == 16
    assert torch.load(tmp_path / "outputs/train/a/last.ckpt")["state"]["epoch"] == 1
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_fault_in_one_rank_is_one_traceback(start: Start, tmp_path: Path, own_network: list[str], rank: int) -> None:
    process = start(*spoilt("fault", rank), *own_network, PYTHONPATH=".")
    code, err = ended(process)
    assert code == 1
    assert err.count("Traceback") == 1
    assert re.search(r"ZeroDivisionError: (integer division or modulo|division) by zero\n$", err)


@pytest.mark.slow
def test_an_own_network_as_student_and_as_teacher(run: Run, tmp_path: Path, own_network: list[str]) -> None:
    """Ranks look for its option where the command was told to."""
    words = [*TINY[1:], "gpus=[]", TWO, "epochs=1", "--config-dir", "conf"]
    run("train", *words, "model=spoilt", "name=teacher", PYTHONPATH=".")
    mimic = ["teacher=teacher", "student=spoilt", "student.projection=false", "stage=2", "loss=l2", "name=a"]
    run("mimic", *words, *mimic, PYTHONPATH=".")
    evaluate = ["checkpoint=checkpoints/a_stage2.ckpt", "teacher=teacher", "gpus=[]", TWO, "--config-dir", "conf"]
    run("eval", *evaluate, "name=e", PYTHONPATH=".")
    found, again = results(tmp_path, "a_stage2", "mimic"), results(tmp_path, "e", "eval")
    assert again["report"] == found["report"]


@pytest.mark.slow
def test_both_stages_of_mimic(run: Run, tmp_path: Path) -> None:
    run(*TRAIN, TWO, "name=teacher")
    words = ["mimic", "teacher=teacher", "student=resnet8", *TINY[1:], "gpus=[]", "loss.hash_num=64", "name=a"]
    out = run(*words, TWO).stdout
    assert out.count("finished: ") == 2
    stages = [torch.load(tmp_path / f"checkpoints/a_stage{n}.ckpt") for n in (1, 2)]
    kept = [torch.load(tmp_path / f"outputs/mimic/a_stage{n}/hash.ckpt")["sha256"] for n in (1, 2)]
    assert kept == [stages[0]["constants"]["sha256"]] * 2
    assert results(tmp_path, "a_stage2", "mimic")["report"]["mimicry"]["hash_agreement"] > 0
    assert out.count("hash functions: the 64 of stage 1") == 1
    again = run(*words).stdout  # whatever the number of ranks
    assert again.count("is finished: ") == 2


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 4), (2, 4)])
def test_another_number_of_ranks_goes_on(
    run: Run, start: Start, tmp_path: Path, own_network: list[str], before: int, after: int
) -> None:
    settings = [*stopping(0), *own_network, "epochs=8", "name=a"]
    (tmp_path / "armed").write_text(f"{'self' if before == 1 else 'parent'} {signal.SIGTERM}")
    assert ended(start(*settings, f"ranks={before}", PYTHONPATH="."))[0] == 143
    out = run(*settings, f"ranks={after}", PYTHONPATH=".").stdout
    assert "continuing after epoch" in out
    assert "its number of ranks changed since it was saved" in out
    assert [entry["epoch"] for entry in results(tmp_path, "a")["history"]] == list(range(1, 9))
    assert "is finished: " in run(*settings, TWO, PYTHONPATH=".").stdout


@pytest.mark.slow
def test_two_jobs_at_once_both_finish(start: Start, tmp_path: Path) -> None:
    processes = [start(*TRAIN, TWO, f"name={name}") for name in "ab"]
    assert [ended(process) for process in processes] == [(0, "")] * 2
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"a.ckpt", "b.ckpt"}
    assert results(tmp_path, "a")["history"] == results(tmp_path, "b")["history"]


@pytest.mark.slow
def test_a_sweep_goes_on_after_a_job_that_failed(run: Run, tmp_path: Path) -> None:
    err = run(*TRAIN, "-m", TWO, "batch_size=33,32", "epochs=1", code=1).stderr
    assert "job 1 (batch_size=33): batch_size=33 is that of all ranks: their number, 2, must divide it" in err
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1


@pytest.mark.parametrize("has_joined", [True, False])
def test_a_rank_that_joined_others_ends_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], has_joined: bool
) -> None:
    """A thread that torch has left could abort Python's own end."""
    left: list[int] = []
    monkeypatch.setattr(launch, "leave", left.append)
    monkeypatch.setattr(meeting, "_store", cache(HashStore))
    if has_joined:
        meeting._store()
    monkeypatch.setattr(sys, "argv", ["lshfm", "no-such-command"])
    assert cli.main() == 2
    assert left == [2] * has_joined
    assert capsys.readouterr().err.startswith("lshfm: error: no such command")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "rank"), [(signal.SIGINT, 0), (signal.SIGTERM, 1)])
def test_a_shell_within_sruns_job_is_told_for_whom_it_waits(start: Start, number: signal.Signals, rank: int) -> None:
    """srun's variables are there, the other ranks are not; signals end the wait at once."""
    step = {"TASKS_PER_NODE": "4", "NODELIST": "localhost", "NUM_TASKS": "4"}
    slurm = {f"SLURM_STEP_{name}": value for name, value in step.items()}
    slurm |= {
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank),
        "SLURM_NODEID": "0",
        "MASTER_PORT": str(free_port()),
    }
    process = start(*TRAIN, **slurm)
    process.wait_for_output("runs alone")
    process.send_signal(number)
    assert ended(process)[0] == -number
    assert process.communicate()[0].startswith(
        f"rank {rank} of 4 waits for the other 3 ranks to start: SLURM_STEP_NUM_TASKS=4 says that srun started them"
    )


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("", 0))
        port: int = free.getsockname()[1]
        return port


@pytest.fixture
def torchrun(tmp_path: Path, environment: dict[str, str]) -> Iterator[Any]:
    """Two agents of torchrun with a rank each, as on two machines; ends them if a test does not."""
    started: list[subprocess.Popen[str]] = []

    def torchrun(*words: str) -> "list[subprocess.Popen[str]]":
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        agent = [
            Path(sys.executable).with_name("torchrun"), "--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d",
            f"--rdzv-endpoint=localhost:{port}", "--rdzv-id=x", "--local-addr=localhost", "-m", "lshfm", *words,
        ]  # fmt: skip
        options: dict[str, Any] = {"cwd": tmp_path, "env": environment | {"PYTHONPATH": f".{os.pathsep}{ROOT}"}}
        options |= {"text": True, "preexec_fn": usual_signals}
        for _ in range(2):
            started.append(subprocess.Popen(agent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options))
        return started

    yield torchrun
    for process in started:
        process.kill()
        process.communicate()


def together(agents: "list[subprocess.Popen[str]]") -> tuple[list[int], str, str]:
    """How the agents ended, and what both said."""
    said = [agent.communicate() for agent in agents]
    return [agent.returncode for agent in agents], "".join(out for out, _ in said), "".join(err for _, err in said)


@pytest.mark.slow
def test_torchrun_on_two_machines_is_one_run(run: Run, torchrun: Any, tmp_path: Path) -> None:
    run(*TRAIN, TWO, "name=own")
    codes, out, err = together(torchrun(*TRAIN, "name=theirs"))
    assert codes == [0, 0], out + err
    assert out.count("epoch 3/3") == log(tmp_path, "theirs").count("epoch 3/3") == 1
    assert {path.name for path in (tmp_path / "outputs/train").iterdir()} == {"own", "theirs"}
    assert_same_run(tmp_path, "theirs", "own")


@pytest.mark.slow
def test_torchrun_with_a_sweep_and_a_job_that_failed(torchrun: Any, tmp_path: Path) -> None:
    codes, _, err = together(torchrun(*TRAIN, "-m", "batch_size=33,32", "epochs=1"))
    assert codes == [1, 1]  # torchrun's own
    assert err.count("lshfm: error: batch_size=33 is that of all ranks") == 1
    assert "lshfm/commands" not in err  # the tracebacks are torchrun's


@pytest.mark.slow
def test_torchrun_stops_and_continues(run: Run, torchrun: Any, tmp_path: Path, own_network: list[str]) -> None:
    settings = [*stopping(1), *own_network, "ema=0.9"]
    run(*settings, TWO, "name=whole", PYTHONPATH=".")
    (tmp_path / "armed").write_text(f"parent {signal.SIGTERM}")  # one machine is taken away
    together(torchrun(*settings, "name=parts"))
    assert log(tmp_path, "parts").count("stopped; the same command continues after epoch 1") == 1
    run(*settings, TWO, "name=parts", PYTHONPATH=".")
    assert_same_run(tmp_path, "parts", "whole")
