"""A rank that waits for others: what it says after a while, and that signals are handled meanwhile."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest
import torch.distributed as dist

from lshfm.outcome import Terminated, raise_on_sigterm
from lshfm.ranks import waiting
from lshfm.ranks.group import all_gather, doing, gather, on_main, rank
from lshfm.ranks.waiting import Roll, patiently, spoken_of
from tests.groups import Died, ends_of, in_ranks


@pytest.fixture
def spoken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is said, of waits that are long at once."""
    words: list[str] = []
    monkeypatch.setattr(waiting, "SECONDS", 0.01)
    monkeypatch.setattr(waiting, "speak", words.append)
    return words


def until(is_so: Callable[[], object]) -> None:
    while not is_so():
        time.sleep(0.005)


def test_a_long_wait_is_spoken_of_once(spoken: list[str]) -> None:
    def wait() -> int:
        until(lambda: spoken)
        time.sleep(0.05)
        return 7

    assert patiently(wait, lambda: "for them") == 7
    assert spoken == ["for them"]
    spoken.clear()
    with spoken_of(lambda: "to join"):
        until(lambda: spoken)
    assert spoken == ["to join"]


def test_a_short_wait_is_not(spoken: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "SECONDS", 600.0)
    with spoken_of(lambda: "to join"):
        assert patiently(lambda: 7, lambda: "for them") == 7
    assert spoken == []


@pytest.mark.parametrize("error", [TimeoutError("theirs"), RuntimeError("gloo"), KeyboardInterrupt()])
@pytest.mark.usefixtures("spoken")
def test_its_error_is_raised(error: BaseException) -> None:
    def wait() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        patiently(wait, str)
    assert caught.value is error


@pytest.fixture
def handled() -> Iterator[list[int]]:
    """SIGTERM is noted first, and raised the second time, as in training."""
    came: list[int] = []

    def handle(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        if len(came) > 1:
            raise Terminated

    before = signal.signal(signal.SIGTERM, handle)
    yield came
    signal.signal(signal.SIGTERM, before)


def test_signals_are_handled_while_it_waits(handled: list[int], spoken: list[str]) -> None:
    never = threading.Event()

    def wait() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        until(lambda: handled and spoken)
        os.kill(os.getpid(), signal.SIGTERM)
        never.wait()

    with pytest.raises(Terminated):
        patiently(wait, lambda: "for them")
    assert handled == [signal.SIGTERM] * 2
    never.set()


def test_who_is_missing_and_what_they_do() -> None:
    store = dist.HashStore()
    ranks = [Roll(store, number, 8) for number in range(8)]
    for roll in ranks[:7]:
        roll.come()
    ranks[1].come()
    assert ranks[0].words() == "rank 0 has been waiting for 10 s for rank 7 (has not joined)"
    with ranks[0].doing("reading"):
        with ranks[0].doing("decoding train"):
            assert ranks[1].words() == (
                "rank 1 has been waiting for 10 s for rank 0 (decoding train), rank 2, rank 3, rank 4 and 3 more"
            )
        assert "rank 0 (reading), rank 2" in ranks[1].words()
    for roll in ranks:
        roll.turn = 2
        roll.store.set(f"turn/{roll.rank}", "2")
    assert ranks[1].words() == "rank 1 has been waiting for 10 s for what the other ranks send"


def _held_up(folder: Path) -> list[str]:
    """Rank 0 works until rank 1 has said for whom it waits; then the other way round."""
    words: list[str] = []

    def speak(text: str) -> None:
        if text.endswith(")"):  # on a busy machine both may also wait for what is on its way
            words.append(text)
            (folder / f"said-{rank()}").touch()

    waiting.SECONDS, waiting.speak = 0.05, speak
    assert on_main(lambda: until((folder / "said-1").exists) or 7, "decoding train") == 7
    if rank() == 1:
        with doing("decoding test"):
            until((folder / "said-0").exists)
    gather(rank())
    assert all_gather(rank()) == [0, 1]
    return words


def test_each_says_for_whom_it_waits(tmp_path: Path) -> None:
    first, second = in_ranks(2, _held_up, tmp_path)
    assert second[0].endswith("s for rank 0 (decoding train)")
    assert first[0].endswith("s for rank 1 (decoding test)")


class Left(Exception):
    """Out of the group without a word to a rank that is gone: gloo may wait for ever to send to one just killed."""


def _stopped(folder: Path) -> str:
    """Rank 1 waits for rank 0, which never comes, and is sent SIGTERM; rank 0 stays until it has ended its wait."""
    raise_on_sigterm()
    if rank() == 0:
        until((folder / "ended").exists)
        raise Left
    waiting.SECONDS, waiting.speak = 0.05, lambda _: os.kill(os.getpid(), signal.SIGTERM)
    try:
        on_main(lambda: None)
    except Terminated:
        (folder / "ended").touch()
        os._exit(143)
    return "deaf"


def test_a_signal_ends_a_wait_at_once(tmp_path: Path) -> None:
    first, second = ends_of(2, _stopped, tmp_path)
    assert isinstance(first, Left)
    assert isinstance(second, Died)
