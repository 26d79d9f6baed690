"""A command under Hydra: its jobs, the processes they run in, and what a launcher asks for."""

import sys
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import ListConfig

from lshfm.config import launch as launching
from lshfm.config.launch import launch, num_gpus, num_tasks
from lshfm.errors import InputError


@pytest.mark.parametrize(
    ("gpus", "ranks", "found"),
    [(None, None, (1, 1)), (4, None, (4, 4)), (ListConfig([0, 2]), None, (2, 2)), (ListConfig([]), 3, (None, 3)),
     ([], None, (None, 1))],
)  # fmt: skip
def test_a_task_a_gpu(gpus: object, ranks: int | None, found: tuple[int | None, int]) -> None:
    assert (num_gpus(gpus), num_tasks(gpus, ranks)) == found


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command line with two jobs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lshfm train", "-m", "seed=0,1"])
    GlobalHydra.instance().clear()


@pytest.mark.usefixtures("sweep")
def test_all_jobs_of_a_sweep_get_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[list[str]] = []

    def task(overrides: list[str]) -> None:
        jobs.append(overrides)
        raise InputError(f"of job {len(jobs)}")

    with pytest.raises(InputError, match="of job 1"):
        launch("train", task, lambda _: pytest.fail("this is the same process"))
    assert jobs == [["seed=0"], ["seed=1"]]


@pytest.mark.usefixtures("sweep")
def test_a_job_in_another_process_ends_there(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers, raised = iter(range(3)), []

    def task(overrides: list[str]) -> None:
        raise HydraException(f"{overrides}")

    def elsewhere(work: Callable[[], None]) -> None:
        with pytest.raises(InputError) as caught:
            work()
        raised.append(str(caught.value))

    monkeypatch.setattr(launching, "_process", lambda: next(numbers))
    launch("train", task, elsewhere)
    assert raised == ["['seed=0']", "['seed=1']"]


def test_another_process_is_told_by_more_than_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    here = launching._process()
    assert here == launching._process()
    monkeypatch.setattr(launching, "_OWN", uuid4())
    assert here != launching._process()
