"""What torchrun and srun say of the ranks they start, and how a rank ends."""

import itertools
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lshfm.errors import InputError, RunFailed
from lshfm.outcome import Terminated
from lshfm.ranks import launch, surroundings
from lshfm.ranks.group import PeerLost, Place
from lshfm.ranks.launch import outcome_of
from lshfm.ranks.surroundings import surrounding

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
SRUN = {
    "SLURM_JOB_ID": "1234",
    "SLURM_STEP_ID": "5",
    "SLURM_STEP_NUM_TASKS": "7",
    "SLURM_STEP_TASKS_PER_NODE": "2(x3),1",
    "SLURM_STEP_NODELIST": "node[03-05,9]",
    "SLURM_PROCID": "3",
    "SLURM_NODEID": "1",
    "SLURM_LOCALID": "1",
}


def fields(place: Place | None) -> tuple[int, ...] | None:
    return place and (place.rank, place.num, place.local_rank, place.local_num)


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, None),
        (TORCHRUN, (3, 4, 1, 2)),
        ({**TORCHRUN, **SRUN}, (3, 4, 1, 2)),  # torchrun under srun, once a machine
        ({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}, (0, 1, 0, 1)),
        (SRUN, (3, 7, 1, 2)),
        ({**SRUN, "SLURM_PROCID": "6", "SLURM_NODEID": "3", "SLURM_LOCALID": "0"}, (6, 7, 0, 1)),
        ({**SRUN, "SLURM_STEP_NUM_TASKS": "1"}, None),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_JOB_ID": "9"}, None),  # the batch script itself
    ],
)
def test_places(environment: dict[str, str], place: tuple[int, ...] | None) -> None:
    assert fields(surrounding(environment)) == place


@pytest.mark.parametrize("change", [{"LOCAL_RANK": None}, {"LOCAL_WORLD_SIZE": None}, {"RANK": "one"}])
def test_half_of_torchruns_environment_is_refused(change: dict[str, str | None]) -> None:
    environment = {name: value for name, value in (TORCHRUN | change).items() if value is not None}
    with pytest.raises(InputError, match=r"^RANK is set, so RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE must be, "):
        surrounding(environment)


def test_which_variables_speak_of_ranks() -> None:
    said = surroundings.evidence(SRUN)
    assert said.startswith("SLURM_STEP_NUM_TASKS=7 says that srun started them")
    assert "`env -u SLURM_STEP_NUM_TASKS lshfm ...` runs alone" in said
    said = surroundings.evidence(TORCHRUN | SRUN)
    assert said.startswith("RANK=3 and WORLD_SIZE=4 say that torchrun started them")
    assert "`env -u RANK -u WORLD_SIZE lshfm ...` runs alone" in said


@pytest.mark.parametrize("environment", [TORCHRUN, SRUN])
def test_without_them_a_command_runs_alone(environment: dict[str, str]) -> None:
    """As the message has it."""
    unset = (
        surroundings.evidence(environment)
        .partition("`env ")[2]
        .partition(" lshfm")[0]
        .removeprefix("-u ")
        .split(" -u ")
    )
    assert surrounding({name: value for name, value in environment.items() if name not in unset}) is None


@pytest.mark.parametrize(
    ("text", "counts"),
    [("4", [4]), ("2(x3),1", [2, 2, 2, 1]), ("1,3(x2),2", [1, 3, 3, 2]), ("16(x64)", [16] * 64), ("1(x2)", [1, 1])],
)
def test_tasks_of_each_machine(text: str, counts: list[int]) -> None:
    assert surroundings._counts(text) == counts


@given(st.lists(st.integers(1, 128), min_size=1, max_size=20))
def test_tasks_are_read_as_slurm_writes_them(counts: list[int]) -> None:
    runs = [(tasks, len(list(nodes))) for tasks, nodes in itertools.groupby(counts)]
    text = ",".join(f"{tasks}(x{times})" if times > 1 else str(tasks) for tasks, times in runs)
    assert surroundings._counts(text) == counts


@pytest.mark.parametrize(
    ("nodes", "host"),
    [
        ("node[03-05,9]", "node03"),
        ("node7", "node7"),
        ("gpu1,gpu2", "gpu1"),
        ("a-b[12,14]", "a-b12"),
        ("a,b[1-2]", "a"),
        ("rack-2-node[001-128]", "rack-2-node001"),
    ],
)
def test_rank_0_of_an_srun_step_is_on_its_first_machine(nodes: str, host: str) -> None:
    assert surroundings.address({**SRUN, "SLURM_STEP_NODELIST": nodes}) == (host, 20000 + (1234 * 31 + 5) % 20000)
    assert surroundings.address({"SLURM_JOB_NODELIST": nodes}) == (host, 20000)


def test_the_environment_may_name_another_address() -> None:
    assert surroundings.address({**SRUN, "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"}) == ("10.0.0.1", 29500)


@given(st.integers(0, 2**31), st.integers(0, 30))
def test_the_port_is_one_that_needs_no_rights_and_differs_between_steps(job: int, step: int) -> None:
    steps = ({**SRUN, "SLURM_JOB_ID": str(job), "SLURM_STEP_ID": str(s)} for s in (step, step + 1))
    ports = [surroundings.address(variables)[1] for variables in steps]
    assert all(1024 < port < 65536 for port in ports)
    assert ports[0] != ports[1]


def ending_with(error: BaseException) -> Callable[[], int]:
    def work() -> int:
        raise error

    return work


class TestOutcome:
    @pytest.fixture(autouse=True)
    def naps(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        """Seconds that were slept."""
        slept: list[float] = []
        monkeypatch.setattr(launch.time, "sleep", slept.append)
        return slept

    @pytest.mark.parametrize(
        ("error", "code", "message"),
        [
            (InputError("no such key"), 2, "lshfm: error: no such key\n"),
            (RunFailed("rank 1: full"), 1, "lshfm: error: rank 1: full\n"),
            (KeyboardInterrupt(), 130, ""),
            (Terminated(), 143, ""),
        ],
    )
    def test_what_ends_a_rank(
        self, capsys: pytest.CaptureFixture[str], naps: list[float], error: BaseException, code: int, message: str
    ) -> None:
        assert outcome_of(ending_with(error)) == code
        assert capsys.readouterr().err == message
        assert naps == []

    def test_a_rank_that_lost_another_is_silent_and_lets_that_one_end_first(
        self, capsys: pytest.CaptureFixture[str], naps: list[float]
    ) -> None:
        assert outcome_of(ending_with(PeerLost("another rank has ended"))) == 1
        assert capsys.readouterr().err == ""
        assert naps == [launch.LINGER]

    @pytest.mark.parametrize("shown", [False, True])
    def test_a_fault_shows_its_traceback_unless_another_rank_did(
        self, monkeypatch: pytest.MonkeyPatch, shown: bool
    ) -> None:
        hooked: list[Any] = []
        monkeypatch.setattr(sys, "excepthook", lambda *error: hooked.append(error[1]))
        fault = ZeroDivisionError()
        fault.shown = shown  # type: ignore[attr-defined]
        assert outcome_of(ending_with(fault)) == 1
        assert hooked == ([] if shown else [fault])

    def test_leaving_shows_what_was_said_and_waits_for_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        done: list[Any] = []
        monkeypatch.setattr(sys.stdout, "flush", lambda: done.append("flushed"))
        monkeypatch.setattr(launch.os, "_exit", done.append)
        launch.leave(143)
        assert done == ["flushed", 143]

    @pytest.mark.parametrize(("signal", "hint"), [(-9, " Is the memory full?"), (-11, "")])
    def test_a_rank_that_a_signal_killed_is_named(self, signal: int, hint: str) -> None:
        name = {-9: "SIGKILL", -11: "SIGSEGV"}[signal]
        with pytest.raises(RunFailed) as caught:
            launch._raise(1, signal)
        assert str(caught.value) == f"rank 1 was killed by {name}.{hint} The same command continues the run."
        assert not caught.value.shown

    def test_a_ranks_own_message_was_enough(self) -> None:
        with pytest.raises(InputError) as caught:
            launch._raise(0, 2)
        assert caught.value.shown
