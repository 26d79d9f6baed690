"""The order in which jobs start and what becomes of those that cannot; their processes are played."""

import json
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from lshfm.engine.lines import EpochLine
from lshfm.outcome import Terminated
from lshfm.runs.sweep import SweepJob, SweepRecord
from lshfm.sweeps import schedule as scheduling
from lshfm.sweeps.progress import Progress
from lshfm.sweeps.schedule import Schedule
from lshfm.sweeps.slots import Slot
from lshfm.sweeps.summary import unfinished

CPU = [Slot((), 1), Slot((), 2)]


class Played:
    """A process that ends with its codes, each after so many looks."""

    def __init__(self, looks: int, code: int, error: str = "it broke") -> None:
        self.looks, self.code, self._error = looks, code, error
        self.orders: list[int] = []

    def poll(self) -> int | None:
        self.looks -= 1
        return self.code if self.looks < 0 else None

    def stop(self, number: int = signal.SIGTERM) -> None:
        self.orders.append(number)
        self.looks, self.code = min(self.looks, 1), 128 + number if number != signal.SIGKILL else -number

    def error(self) -> str:
        return self._error


class Told:
    """Who is told of what happens."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def started(self, job: SweepJob) -> None:
        self.events.append(f"{job.number} on {job.device}")

    def epoch(self, job: SweepJob, line: EpochLine) -> None:
        self.events.append(f"{job.number} epoch {line.epoch}")

    def ended(self, job: SweepJob, progress: Progress) -> None:
        self.events.append(f"{job.number} {job.state}")

    def look(self, record: SweepRecord, running: dict[int, Progress]) -> None:
        pass


def record(*needs: Sequence[int]) -> SweepRecord:
    jobs = [SweepJob(number=n, command=("lshfm",), needs=tuple(each)) for n, each in enumerate(needs, 1)]
    return SweepRecord(name="x", command="train", command_line=(), jobs=tuple(jobs))


@pytest.fixture(autouse=True)
def _interruptible() -> Iterator[None]:
    """Ctrl-C, which a shell has commands in the background ignore, is heard."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduling.time, "sleep", lambda _: None)


def states(done: SweepRecord) -> list[str]:
    return [str(job.state) for job in done.jobs]


Start = Callable[[SweepJob, Slot], Played]


def run(
    tmp_path: Path, what: SweepRecord, start: Start, slots: Sequence[Slot] = CPU, *, told: Told | None = None,
    search: object = None, answers: Callable[[Slot], bool] = lambda _: True,
) -> SweepRecord:  # fmt: skip
    schedule = Schedule(what, tmp_path, slots, start, answers)  # type: ignore[arg-type]
    schedule.view, schedule.search = told or Told(), search  # type: ignore[assignment]
    return schedule.run()


def test_as_many_jobs_run_as_there_are_slots_and_the_next_takes_the_first_that_is_free(tmp_path: Path) -> None:
    told = Told()
    looks = {1: 5, 2: 1, 3: 1}
    gpus = [Slot((0,), 1), Slot((1,), 1)]
    done = run(tmp_path, record([], [], []), lambda job, _: Played(looks[job.number], 0), gpus, told=told)
    assert told.events == ["1 on GPU 0", "2 on GPU 1", "2 finished", "3 on GPU 1", "3 finished", "1 finished"]
    assert SweepRecord.read(tmp_path) == done


def test_a_failed_job_leaves_the_others_but_for_those_that_need_it(tmp_path: Path) -> None:
    codes = {1: 1, 2: 0, 3: 0}
    done = run(tmp_path, record([], [], [2], [1], [4]), lambda job, _: Played(1, codes[job.number]))
    assert states(done) == ["failed", "finished", "finished", "not started", "not started"]
    assert [job.error for job in done.jobs] == ["it broke", None, None, "it needs job 1", "it needs job 4"]
    assert [job.number for job in unfinished(done)] == [1, 4, 5]


def test_jobs_wait_for_what_they_need(tmp_path: Path) -> None:
    started: list[int] = []

    def start(job: SweepJob, _: Slot) -> Played:
        started.append(job.number)
        return Played({1: 4, 2: 0, 3: 0}[job.number], 0)

    run(tmp_path, record([], [1], []), start)
    assert started == [1, 3, 2]


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_a_signal_ends_all_jobs_which_the_record_calls_stopped(
    tmp_path: Path, number: int, raised: type[BaseException]
) -> None:
    played: list[Played] = []

    def start(job: SweepJob, _: Slot) -> Played:
        played.append(Played(100, 0))
        if job.number == 2:
            signal.raise_signal(number)
        return played[-1]

    before = signal.getsignal(number)
    with pytest.raises(raised):
        run(tmp_path, record([], [], []), start)
    assert [each.orders for each in played] == [[signal.SIGTERM]] * 2
    assert states(SweepRecord.read(tmp_path)) == ["stopped", "stopped", "waiting"]
    assert signal.getsignal(number) is before


def test_a_job_that_does_not_end_in_time_is_ended_by_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduling, "SECONDS_TO_SAVE", 0.0)

    class Deaf(Played):
        def stop(self, number: int = signal.SIGTERM) -> None:
            if number == signal.SIGKILL:
                super().stop(number)

    def start(job: SweepJob, _: Slot) -> Played:
        signal.raise_signal(signal.SIGINT)
        return Deaf(10**9, 0)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, record([]), start)
    assert states(SweepRecord.read(tmp_path)) == ["failed"]


def test_a_gpu_that_is_gone_gets_no_more_jobs(tmp_path: Path) -> None:
    """Only one that no longer computes: jobs fail for reasons of their own, too."""
    slots = [Slot((0,), 1), Slot((1,), 1), Slot((1,), 2)]
    tried: list[int] = []

    def answers(slot: Slot) -> bool:
        tried.append(slot.gpus[0])
        return slot.gpus != (1,)

    def start(job: SweepJob, slot: Slot) -> Played:
        return Played(1, 1 if slot.gpus == (1,) or job.number == 1 else 0)

    done = run(tmp_path, record([], [], [], [], []), start, slots, answers=answers)
    assert [job.device for job in done.jobs] == ["GPU 0", "GPU 1", "GPU 1", "GPU 0", "GPU 0"]
    assert states(done) == ["failed", "failed", "failed", "finished", "finished"]
    assert tried == [0, 1, 1]


def test_without_a_gpu_that_is_left_the_rest_does_not_start(tmp_path: Path) -> None:
    done = run(tmp_path, record([], []), lambda *_: Played(0, 1), [Slot((0,), 1)], answers=lambda _: False)
    assert states(done) == ["failed", "not started"]
    assert done.jobs[1].error == "no GPU is left"


def test_a_full_disk_is_said_once_and_the_jobs_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(scheduling.logger, "warning", lambda text, *values: warnings.append(text % values))

    def full(self: SweepRecord, folder: Path) -> None:
        raise OSError(28, "No space left on device", str(folder))

    monkeypatch.setattr(SweepRecord, "write", full)
    assert states(run(tmp_path, record([], [], []), lambda *_: Played(0, 0))) == ["finished"] * 3
    assert len(warnings) == 1
    assert "No space left" in warnings[0]


def test_a_job_whose_log_cannot_be_opened_fails_alone(tmp_path: Path) -> None:
    def start(job: SweepJob, _: Slot) -> Played:
        if job.number == 1:
            raise OSError(28, "No space left on device", "001.log")
        return Played(0, 0)

    done = run(tmp_path, record([], []), start)
    assert states(done) == ["failed", "finished"]
    assert done.jobs[0].error == "No space left on device: 001.log"


class Hunt:
    """A search of three jobs that ends the second after its first epoch."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def ask(self, number: int) -> SweepJob | None:
        return SweepJob(number=number, command=("lshfm",), runs=(f"run{number}",), epochs=(2,)) if number < 4 else None

    def report(self, job: SweepJob, line: EpochLine) -> bool:
        return job.number == 2

    def tell(self, job: SweepJob) -> None:
        self.told.append(f"{job.number} {job.state}")


def test_a_search_makes_jobs_and_ends_those_not_worth_their_time(tmp_path: Path) -> None:
    hunt = Hunt()

    def start(job: SweepJob, _: Slot) -> Played:
        (tmp_path / f"run{job.number}").mkdir()
        line = {"version": 2, "kind": "epoch", "epoch": 1, "metric": "mAP", "score": 3.0}
        (tmp_path / f"run{job.number}/metrics.jsonl").write_text(json.dumps(line) + "\n")
        return Played(20 if job.number == 2 else 2, 0)

    done = run(tmp_path, record(), start, search=hunt)
    assert states(done) == ["finished", "pruned", "finished"]
    assert sorted(hunt.told) == ["1 finished", "2 pruned", "3 finished"]
    assert unfinished(done) == []
