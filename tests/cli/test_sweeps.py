"""Whole sweeps of real jobs on a CPU: killed, restarted, searched."""

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

from lshfm.runs.sweep import JobState, SweepRecord
from tests.cli.conftest import Run, Start
from tests.processes import Process

TINY = (
    "model=resnet8", "dataset.num_train=64", "dataset.num_eval=32", "dataset.size=16", "dataset.cache=off", "epochs=3",
    "gpus=[]", "workers=0",
)  # fmt: skip
SWEEP = Path("outputs/sweeps/a")


def record(folder: Path) -> SweepRecord:
    return SweepRecord.read(folder / SWEEP)


def running(folder: Path, number: int) -> int:
    """The process of a job, once it trains."""
    log = folder / SWEEP / f"{number:03d}.log"
    while not log.exists() or "run folder" not in log.read_text():
        time.sleep(0.05)
    for path in Path("/proc").glob("[0-9]*/fd/1"):
        try:
            if path.readlink() == log.resolve():
                return int(path.parts[2])
        except OSError:
            continue
    raise AssertionError(f"job {number} has ended already")


def until(process: Process, text: str) -> None:
    process.wait_for_output(text)


@pytest.mark.slow
def test_a_sweep_through_all_that_can_go_wrong(start: Start, tmp_path: Path) -> None:
    """Six jobs, two side by side: one killed, one failing; the sweep refused a twin, killed, restarted, finished."""
    words = ("train", "-m", *TINY, "lr=0.1,0.2,0.3", "seed=0,1", "sweep.jobs=2", "sweep.name=a")
    broken = tmp_path / "outputs/train/shapes_resnet8_bce_s1_epochs-3_lr-0.2_size-16_num_train-64_num_eval-32"
    broken.mkdir(parents=True)
    (broken / "notes.txt").write_text("not a run of lshfm")
    first = start(*words)
    os.kill(running(tmp_path, 1), signal.SIGKILL)  # as the kernel does where memory is short
    until(first, "job 2 of 6 (lr=0.1 seed=1) finished")
    twin = start(*words)
    assert twin.wait() == 2
    assert "this sweep is running already" in twin.communicate()[1]
    at_work = [job.number for job in record(tmp_path).jobs if job.state is JobState.RUNNING]
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    states = {job.number: job.state for job in record(tmp_path).jobs}
    assert (states[1], states[2]) == (JobState.FAILED, JobState.FINISHED)
    second = start(*words)
    assert second.wait() == 1
    out, err = second.communicate()
    assert "job 2 of 6" not in out  # it was finished
    assert "1 of 6 jobs did not finish:\n  job 4 (lr=0.2 seed=1): " in err
    assert "exists and is not a run of lshfm" in err
    assert [job.number for job in record(tmp_path).jobs if job.state is not JobState.FINISHED] == [4]
    for number in at_work:  # they saved when the sweep was killed, and went on, each once
        log = (tmp_path / SWEEP / f"{number:03d}.log").read_text()
        assert "another lshfm process is running" not in log
    assert len(list((tmp_path / "checkpoints").iterdir())) == 5
    rows = json.loads((tmp_path / SWEEP / "summary.json").read_text())["rows"]
    assert sorted(len(row["scores"]) for row in rows) == [1, 2, 2]
    assert [row["mean"] for row in rows] == sorted((row["mean"] for row in rows), reverse=True)


@pytest.mark.slow
def test_ctrl_c_ends_a_sweep_within_seconds_and_it_goes_on(start: Start, tmp_path: Path) -> None:
    process = start("train", "-m", *TINY, "epochs=500", "log_every=1", "seed=0,1", "sweep.name=a")
    pid = running(tmp_path, 1)
    until(process, "job 1: epoch 1,")
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    assert "stopped; the same command goes on" in process.communicate()[0]
    assert not Path(f"/proc/{pid}").exists()
    assert [job.state for job in record(tmp_path).jobs] == [JobState.STOPPED, JobState.WAITING]
    log = tmp_path / SWEEP / "001.log"
    done = int(re.findall(r"continues after epoch (\d+)", log.read_text())[-1])
    process = start("train", "-m", "sweep.name=a")  # the name alone says which
    until(process, f"job 1: epoch {done + 1},")
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 143
    assert f"continuing after epoch {done}" in log.read_text()


@pytest.mark.slow
def test_stages_of_arms_wait_for_the_one_they_share(run: Run, tmp_path: Path) -> None:
    """With the teacher trained in the same sweep: four jobs one after the other, of two commands."""
    tiny = [word for word in TINY if not word.startswith("model=")]
    words = ("teacher=resnet8", "student=resnet8", "stage2.lr=0.1,0.2", "sweep.name=a", "sweep.teacher.epochs=2")
    out = run("mimic", "-m", *tiny, *words, "sweep.jobs=2").stdout
    jobs = record(tmp_path).jobs
    assert [job.command[1] for job in jobs] == ["train", "mimic", "mimic", "mimic"]
    assert [job.needs for job in jobs] == [(), (1,), (1, 2), (1, 2)]
    assert {job.state for job in jobs} == {JobState.FINISHED}
    assert out.index("job 2 of 4 (stage=1) started") > out.index("job 1 of 4 (teacher=resnet8) finished")
    assert out.index("job 3 of 4 (stage2.lr=0.1) started") > out.index("job 2 of 4 (stage=1) finished")
    assert "is finished: " in (tmp_path / SWEEP / "003.log").read_text()  # stage 1, which it finds there


@pytest.mark.slow
def test_a_search_is_killed_and_goes_on(start: Start, run: Run, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    words = (
        "train", "sweep=optuna", *TINY, "lr=tag(log, interval(0.01,0.3))", "optimizer=choice(sgd,adam)",
        "sweep.trials=3", "sweep.jobs=2", "sweep.name=a",
    )  # fmt: skip
    process = start(*words)
    until(process, "job 1: epoch 1,")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    out = run(*words).stdout
    jobs = record(tmp_path).jobs
    assert [job.number for job in jobs] == [1, 2, 3]
    assert {job.state for job in jobs} <= {JobState.FINISHED, JobState.PRUNED}
    assert len({job.runs for job in jobs}) == 3
    assert "held out" in out
    assert out.count("started on CPU") == 3  # none anew, none left out
