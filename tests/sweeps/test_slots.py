"""Where jobs run: on which GPUs, how many side by side, with how many threads."""

import os

import pytest

from lshfm.config.sweeping import Sweep, asked
from lshfm.errors import InputError
from lshfm.sweeps import slots as places


def sweep(*words: str) -> Sweep:
    return asked("train", ["-m", *words]).settings


@pytest.mark.parametrize(
    ("words", "gpus", "expected"),
    [
        ([], None, ["GPU 0", "GPU 1", "GPU 2"]),
        ([], [2], ["GPU 2"]),
        ([], 2, ["GPU 0", "GPU 1"]),
        (["sweep.gpus_per_job=2"], [0, 1, 2, 3], ["GPU 0,1", "GPU 2,3"]),
        (["sweep.gpus_per_job=2"], None, ["GPU 0,1"]),  # the third one has no other
        (["sweep.jobs_per_gpu=2"], [0, 1], ["GPU 0", "GPU 1", "GPU 0", "GPU 1"]),
        ([], [], ["CPU"]),
        (["sweep.jobs=3"], [], ["CPU"] * 3),
    ],
)
def test_slots(monkeypatch: pytest.MonkeyPatch, words: list[str], gpus: object, expected: list[str]) -> None:
    monkeypatch.setattr(places, "num_gpus", lambda: 3)
    found = places.slots(sweep(*words), gpus)
    assert [slot.device for slot in found] == expected
    assert len(set(found)) == len(found)


def test_words_of_a_slot() -> None:
    assert places.Slot((2, 3), 1).words == ("gpus=[2,3]",)
    assert places.Slot((), 1).words == ("gpus=[]",)


def test_more_gpus_a_job_than_there_are() -> None:
    with pytest.raises(InputError, match="there are 2 GPUs"):
        places.slots(sweep("sweep.gpus_per_job=4"), [0, 1])


def test_jobs_side_by_side_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """One alone has all of them, as without a sweep: threads change the last bits."""
    monkeypatch.setattr(places, "num_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert "OMP_NUM_THREADS" not in places.environment(places.slots(sweep(), []))
    assert places.environment(places.slots(sweep("sweep.jobs=3"), []))["OMP_NUM_THREADS"] == "2"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert places.environment(places.slots(sweep("sweep.jobs=3"), []))["OMP_NUM_THREADS"] == "5"
    assert os.environ["OMP_NUM_THREADS"] == "5"


def test_without_a_driver_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> None:
        raise OSError

    monkeypatch.setattr(places.ctypes, "CDLL", missing)
    assert places.num_gpus() == 0
