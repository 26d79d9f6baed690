"""Jobs that Hydra's submitit launcher submits to SLURM; what SLURM does is played by scripts on this machine."""

import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lshfm.engine.interrupts import Interrupts
from lshfm.ranks import slurm as job_under_slurm
from tests.cli.conftest import TINY, Refuse, Run, Start, here
from tests.cli.test_runs import wait_for

pytest.importorskip("hydra_plugins.hydra_submitit_launcher")

NUMBER = os.getpid()  # of a job: its ranks meet at a port that follows from it, and tests run side by side
COMMANDS = {
    "sbatch": """
        bin=$(dirname "$0"); cp "$1" "$bin/script.sh"
        [ ! -e "$bin/refuses" ] || { echo "sbatch: error: invalid partition" >&2; exit 1; }
        export SLURM_JOB_ID=NUMBER SLURM_JOB_NODELIST=localhost SLURM_NTASKS=$(grep -oP 'ntasks-per-node=\\K.*' "$1")
        (
            while bash "$bin/script.sh"; code=$?; [ -e "$bin/requeue" ]; do mv "$bin/requeue" "$bin/requeued"; done
            echo $code > "$bin/code"
        ) < /dev/null &> "$bin/batch.log" &
        echo "Submitted batch job NUMBER"
    """,
    "srun": """
        log=${3//%j/$SLURM_JOB_ID}  # srun --unbuffered --output LOG COMMAND...
        export SLURM_STEP_ID=0 SLURM_STEP_NODELIST=localhost SLURM_NODEID=0
        export SLURM_STEP_NUM_TASKS=$SLURM_NTASKS SLURM_STEP_TASKS_PER_NODE=$SLURM_NTASKS
        for task in $(seq 0 $((SLURM_NTASKS - 1))); do
            SLURM_PROCID=$task SLURM_LOCALID=$task "${@:4}" >> "${log//%t/$task}" 2>&1 &
            pids+=($!)
        done
        echo "${pids[@]}" > "$(dirname "$0")/pids"
        for pid in "${pids[@]}"; do wait "$pid" || code=$?; done
        exit ${code:-0}
    """,
    "sacct": """
        code=$(cat "$(dirname "$0")/code" 2> /dev/null)
        case $code in "") state=RUNNING;; 0) state=COMPLETED;; *) state=FAILED;; esac
        printf 'JobID|State|NodeList\\nNUMBER|%s|localhost\\n' $state
    """,
    "scontrol": 'echo "$@" >> "$(dirname "$0")/requeue"',
}
SLURM = ("train", "-m", "hydra/launcher=slurm")


@pytest.fixture
def slurm(tmp_path: Path) -> Path:
    """A folder with SLURM's commands, for PATH."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name, lines in COMMANDS.items():
        (folder / name).write_text(f"#!/bin/bash\n{lines}".replace("NUMBER", str(NUMBER)))
        (folder / name).chmod(0o755)
    return folder


def ahead(folder: Path) -> str:
    return f"{folder}:{os.environ['PATH']}"


@pytest.mark.parametrize(
    ("words", "differs"),
    [
        (["gpus=4", "seed=0,1", "hydra.launcher.partition=gpu"],
         {"array": "0-1%2", "partition": "gpu", "gpus-per-node": "4", "ntasks-per-node": "4"}),
        (["hydra.launcher.nodes=2"], {"nodes": "2", "gpus-per-node": "1", "ntasks-per-node": "1"}),
        (["gpus=[]", "ranks=3", "hydra.launcher.max_num_timeout=0"], {"ntasks-per-node": "3"}),
    ],
)  # fmt: skip
def test_what_sbatch_is_given(
    slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], differs: dict[str, str]
) -> None:
    (slurm / "refuses").touch()
    monkeypatch.setenv("PATH", ahead(slurm))
    said = here(tmp_path, *SLURM, *words, code=1)
    assert said.endswith("lshfm: error: no job was submitted: sbatch: error: invalid partition\n")
    script = (slurm / "script.sh").read_text()
    given = dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", script, re.MULTILINE))
    (sweep,) = (tmp_path / "outputs/sweeps").iterdir()
    job = "%A_%a" if "array" in differs else "%j"
    assert given == differs | {
        "nodes": differs.get("nodes", "1"), "cpus-per-task": "8", "time": "720", "signal": "USR2@120", "requeue": "",
        "job-name": "lshfm-train", "wckey": "submitit", "open-mode": "append",
        "output": f"{sweep}/slurm/{job}_0_log.out",
    }  # fmt: skip
    setup, command = script.partition("# setup\n")[2].split("\n\n# command\n")
    assert setup == "export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK"
    assert f"srun --unbuffered --output {sweep}/slurm/{job}_%t_log.out {sys.executable}" in command


def test_a_machine_without_slurm_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert 'error: no job was submitted: Could not detect "srun"' in here(tmp_path, *SLURM, code=1)


def test_a_launcher_takes_a_sweep(refuse: Refuse) -> None:
    assert refuse("train", "hydra/launcher=slurm") == "hydra/launcher=slurm takes -m, for one job too"


def test_help_is_no_job(tmp_path: Path) -> None:
    page = here(tmp_path, "train", "hydra/launcher=slurm", "hydra.launcher.partition=gpu", "gpus=2", "--help")
    assert re.search(r"^  gpus .*\[2\]$", page, re.MULTILINE)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def codes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """What this process would have ended with."""
    left: list[int] = []
    monkeypatch.setattr(job_under_slurm, "leave", left.append)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)}
    yield left
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("number", "events"), [(signal.SIGUSR2, ["saved", "requeued"]), (signal.SIGTERM, ["saved"])], ids=["USR2", "TERM"]
)
def test_a_job_saves_before_it_is_requeued(codes: list[int], number: int, events: list[str]) -> None:
    happened = []

    def requeue(*_: object) -> None:  # as submitit's, in the first task
        happened.append("requeued")
        raise SystemExit(-1)

    def work() -> None:
        with Interrupts() as interrupts:
            signal.raise_signal(number)
            happened.append("saved")
            interrupts.stop(interrupts.asked)

    signal.signal(signal.SIGUSR2, requeue)
    job_under_slurm.run(work)
    assert happened == events
    assert codes == [143]


def test_other_tasks_wait_for_the_first_to_requeue(codes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(job_under_slurm.time, "sleep", waited.append)
    signal.signal(signal.SIGUSR2, lambda *_: None)  # as submitit's, in all tasks but the first
    job_under_slurm.run(lambda: signal.raise_signal(signal.SIGUSR2))
    assert (waited, codes) == ([10.0], [143])


def test_a_job_that_is_not_requeued_says_why(codes: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("Job not requeued because: timed-out too many times.")

    signal.signal(signal.SIGUSR2, refuse)
    job_under_slurm.run(lambda: signal.raise_signal(signal.SIGUSR2))
    assert capsys.readouterr().out == "warning: Job not requeued because: timed-out too many times.\n"
    assert codes == [143]


@pytest.mark.slow
def test_two_tasks_train_one_run_that_is_requeued_on_the_way(start: Start, slurm: Path, tmp_path: Path) -> None:
    settings = [*TINY, "gpus=[]", "ranks=2", "epochs=100", "name=a"]
    process = start(*SLURM, *settings, PATH=ahead(slurm))
    folder = tmp_path / "outputs/train/a"
    wait_for(folder / "last.ckpt", process)
    for pid in (slurm / "pids").read_text().split():
        os.kill(int(pid), signal.SIGUSR2)
    out, err = process.communicate()
    assert process.returncode == 0, out + err
    assert err == ""
    assert (slurm / "requeued").read_text() == f"requeue {NUMBER}\n"
    log = (folder / "log.txt").read_text()
    assert log.count("stopped; the same command continues") == log.count("continuing after epoch") == 1
    assert json.loads((folder / "results.json").read_text())["hardware"]["ranks"] == 2
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["a.ckpt"]
    (rows,) = (path.read_text().splitlines() for path in tmp_path.glob("outputs/sweeps/*/summary.csv"))
    assert rows[1].startswith("1,voc2010 mAP,")  # the summary of any sweep
    (second,) = tmp_path.glob(f"outputs/sweeps/*/slurm/{NUMBER}_1_log.out")
    assert {line.split()[0] for line in second.read_text().splitlines()} == {"submitit"}  # only rank 0 speaks


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_failed_job_is_one_message(run: Run, slurm: Path, tmp_path: Path, ranks: int) -> None:
    words = (*SLURM, *TINY, "gpus=[]", f"ranks={ranks}", "dataset.num_train=16")
    ended = run(*words, code=1, PATH=ahead(slurm))
    (sweep,) = (tmp_path / "outputs/sweeps").iterdir()
    assert ended.stderr == (
        f"lshfm: error: job {NUMBER} ended as FAILED: batch_size=32 is more than the 16 images of train. "
        f"See {sweep}/slurm/{NUMBER}_*_log.out; other jobs of the sweep go on.\n"
    )
    logs = "".join(path.read_text() for path in sorted(sweep.glob(f"slurm/{NUMBER}_*_log.out")))
    assert set(re.findall("error: .*", logs)) == {"error: batch_size=32 is more than the 16 images of train"}
    assert "Traceback" not in logs
    assert (slurm / "code").read_text() == "2\n"
