"""Runs jobs on slots: starts what is ready, watches what runs, keeps the record, and ends all at a signal."""

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Protocol

from lshfm.console import logger
from lshfm.engine.lines import EpochLine
from lshfm.errors import RunFailed
from lshfm.outcome import Terminated
from lshfm.runs.sweep import JobState, SweepJob, SweepRecord, paths_of
from lshfm.sweeps.process import STOPPED, Process
from lshfm.sweeps.progress import Progress
from lshfm.sweeps.show import Lines
from lshfm.sweeps.slots import Slot

SECONDS_BETWEEN_LOOKS = 0.2
SECONDS_TO_SAVE = 60.0  # from the order to end until the end by force
OPEN = (JobState.WAITING, JobState.RUNNING)


class View(Protocol):
    """Who is told of what happens."""

    def started(self, job: SweepJob) -> None: ...
    def epoch(self, job: SweepJob, line: EpochLine) -> None: ...
    def ended(self, job: SweepJob, progress: Progress) -> None: ...
    def look(self, record: SweepRecord, running: dict[int, Progress]) -> None: ...


class Search(Protocol):
    """Who makes jobs while others run, and ends those that are not worth their time."""

    def ask(self, number: int) -> SweepJob | None: ...
    def report(self, job: SweepJob, line: EpochLine) -> bool: ...
    def tell(self, job: SweepJob) -> None: ...


@dataclass
class Running:
    """A job at work."""

    number: int
    slot: Slot
    process: Process
    progress: Progress
    is_pruned: bool = False


Start = Callable[[SweepJob, Slot], Process]


class Schedule:
    """The jobs of a record on slots, until none is open.

    view, search: who is told, and who makes more jobs; to be set before `run`.
    start: makes a job's process. answers: whether a slot's device still computes; asked after a job has failed there.
    """

    def __init__(
        self, record: SweepRecord, folder: Path, slots: Sequence[Slot], start: Start, answers: Callable[[Slot], bool]
    ) -> None:
        self.record, self.folder, self.slots = record, folder, list(slots)
        self.view: View = Lines(record)
        self.search: Search | None = None
        self._start, self._answers = start, answers
        self._running: list[Running] = []
        self._asked: list[int] = []  # signals
        self._is_behind = False  # whether the record could not be written

    def run(self) -> SweepRecord:
        """Work until nothing is left to do; returns the record.

        Raises KeyboardInterrupt or Terminated after a signal, once all jobs have saved and ended.
        """
        with self._signals():
            while not self._asked and (self._fill() or self._running):
                time.sleep(SECONDS_BETWEEN_LOOKS)
                self._look()
            if self._asked:
                self._end_all()
        if self._asked:
            raise KeyboardInterrupt if self._asked[0] == signal.SIGINT else Terminated
        return self.record

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def note(number: int, _frame: FrameType | None) -> None:
            self._asked.append(number)

        handled = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
        before = {number: signal.signal(number, note) for number in handled}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _fill(self) -> bool:
        """Start jobs where there is room; whether any is open."""
        self._drop_hopeless()
        for slot in self.slots:
            if any(each.slot == slot for each in self._running):
                continue
            job = self._next()
            if job is None:
                break
            self._begin(job, slot)
        return any(job.state in OPEN for job in self.record.jobs)

    def _next(self) -> SweepJob | None:
        """A job whose needs are there; else one that the search asks for."""
        done = {job.number for job in self.record.jobs if job.state is JobState.FINISHED}
        waiting = [job for job in self.record.jobs if job.state is JobState.WAITING]
        ready = next((job for job in waiting if set(job.needs) <= done), None)
        if ready or self.search is None:
            return ready
        asked = self.search.ask(len(self.record.jobs) + 1)
        if asked and asked.number > len(self.record.jobs):
            self.record = SweepRecord(**vars(self.record) | {"jobs": (*self.record.jobs, asked)})
        return asked

    def _drop_hopeless(self) -> None:
        """What needs a job that did not finish, and will not in this call, does not start."""
        for job in self.record.jobs:  # in order: needs come first
            ended = {each.number for each in self.record.jobs if each.state not in (*OPEN, JobState.FINISHED)}
            missing = sorted(set(job.needs) & ended)
            if job.state is JobState.WAITING and missing:
                self._end(job.to(JobState.NOT_STARTED, error=f"it needs job {missing[0]}"), None)

    def _begin(self, job: SweepJob, slot: Slot) -> None:
        progress = Progress(paths_of(self.folder, job.runs), job.epochs)
        try:
            process = self._start(job, slot)
        except OSError as error:  # no room for its log, no process left
            said = f"{error.strerror}: {error.filename or 'no new process'}"
            self._end(job.to(JobState.FAILED, error=said), progress)
            return
        self._running.append(Running(job.number, slot, process, progress))
        job = job.to(JobState.RUNNING, device=slot.device, started=_now(), ended=None, error=None)
        self._keep(job)
        self.view.started(job)

    def _look(self) -> None:
        for each in list(self._running):
            self._look_at(each)
        self.view.look(self.record, {each.number: each.progress for each in self._running})

    def _look_at(self, each: Running) -> None:
        code = each.process.poll()  # first: what it has recorded until then is read below
        job = self._job(each.number)
        for line in each.progress.read():
            self.view.epoch(job, line)
            if self.search and self.search.report(job, line) and code is None and not each.is_pruned:
                each.is_pruned = True
                each.process.stop()
        if code is not None:
            self._running.remove(each)
            self._end(_ended(job, each, code), each.progress)
            if self._job(each.number).state is JobState.FAILED and each.slot.gpus and not self._answers(each.slot):
                self._take_out(each.slot)

    def _take_out(self, slot: Slot) -> None:
        """A device that is gone gets no more jobs; without another one, those that wait are left."""
        self.slots = [other for other in self.slots if not set(other.gpus) & set(slot.gpus)]
        logger.warning("%s does not answer: no more jobs go there", slot.device)
        if not self.slots:
            for job in self.record.jobs:
                if job.state is JobState.WAITING:
                    self._end(job.to(JobState.NOT_STARTED, error="no GPU is left"), None)
            self.search = None

    def _end(self, job: SweepJob, progress: Progress | None) -> None:
        job = job.to(job.state, ended=_now())
        self._keep(job)
        if self.search and job.state is not JobState.STOPPED:
            self.search.tell(job)
        self.view.ended(job, progress or Progress((), ()))

    def _end_all(self) -> None:
        """Pass a signal on and wait until all jobs have saved; a second one ends them at once."""
        orders, since = 0, time.monotonic()
        while self._running:
            late = time.monotonic() - since > SECONDS_TO_SAVE
            if late or orders < len(self._asked):
                for each in self._running:
                    each.process.stop(signal.SIGKILL if late or len(self._asked) > 2 else signal.SIGTERM)
                orders = len(self._asked)
            time.sleep(SECONDS_BETWEEN_LOOKS)
            self._look()

    def _job(self, number: int) -> SweepJob:
        return self.record.jobs[number - 1]

    def _keep(self, job: SweepJob) -> None:
        """Put a job into the record and write it; a full disk is said once, for the jobs' own folders tell the rest."""
        self.record = self.record.with_job(job)
        try:
            self.record.write(self.folder)
            self._is_behind = False
        except (OSError, RunFailed) as error:
            if not self._is_behind:
                logger.warning("%s; the sweep goes on", error)
            self._is_behind = True


def _ended(job: SweepJob, running: Running, code: int) -> SweepJob:
    if code == 0:
        return job.to(JobState.FINISHED)
    if code in STOPPED and running.is_pruned:
        return job.to(JobState.PRUNED)
    if code in STOPPED:
        return job.to(JobState.STOPPED, error="stopped; the same sweep continues it")
    return job.to(JobState.FAILED, error=running.process.error())


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
