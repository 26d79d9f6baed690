"""Signals while a run trains, sent to this very process."""

import os
import signal
from collections.abc import Callable, Iterator
from threading import Thread
from types import FrameType

import pytest

from lshfm.engine import interrupts
from lshfm.engine.interrupts import Interrupts
from lshfm.outcome import Terminated, raise_on_sigterm

RAISED = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """As a command sets them, and afterwards as they were."""
    before = {number: signal.getsignal(number) for number in RAISED}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    raise_on_sigterm()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that it is taken to be."""
    time = [100.0]
    monkeypatch.setattr(interrupts.time, "monotonic", lambda: time[0])
    return time


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def end_of(training: Callable[[Interrupts], object]) -> type[BaseException] | None:
    """What ends a training that may be interrupted."""
    try:
        with Interrupts() as asked_to:
            training(asked_to)
    except (KeyboardInterrupt, Terminated, ZeroDivisionError) as error:
        return type(error)
    return None


@pytest.mark.parametrize("number", RAISED)
def test_the_first_signal_waits_and_is_raised_when_the_run_says_so(number: signal.Signals) -> None:
    noted: list[int] = []

    def training(asked_to: Interrupts) -> None:
        noted.append(asked_to.asked)
        send(number)
        noted.append(asked_to.asked)
        asked_to.stop(asked_to.asked)

    assert end_of(training) is RAISED[number]
    assert noted == [0, number]


@pytest.mark.parametrize("number", RAISED)
def test_one_that_nobody_answered_is_raised_at_the_end(number: signal.Signals) -> None:
    saved: list[int] = []

    def training(_: Interrupts) -> None:
        send(number)
        saved.append(number)

    assert end_of(training) is RAISED[number]
    assert saved == [number]


def test_an_error_is_not_replaced_by_a_waiting_signal() -> None:
    def training(_: Interrupts) -> None:
        send(signal.SIGTERM)
        raise ZeroDivisionError

    assert end_of(training) is ZeroDivisionError


SECOND = [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT)]


@pytest.mark.parametrize(("first", "second"), SECOND)
def test_a_second_one_is_raised_at_once(now: list[float], first: signal.Signals, second: signal.Signals) -> None:
    reached: list[int] = []

    def training(_: Interrupts) -> None:
        send(first)
        reached.append(1)
        now[0] += interrupts.SECONDS_APART + 0.01
        send(second)
        reached.append(2)

    assert end_of(training) is RAISED[second]
    assert reached == [1]


def test_what_comes_within_a_second_is_the_same_wish(now: list[float]) -> None:
    noted: list[int] = []

    def training(asked_to: Interrupts) -> None:
        send(signal.SIGINT)
        now[0] += interrupts.SECONDS_APART
        send(signal.SIGTERM)
        noted.append(asked_to.asked)

    assert end_of(training) is KeyboardInterrupt
    assert noted == [signal.SIGINT]


class TestAtOnce:
    @pytest.mark.parametrize("number", RAISED)
    def test_signals_are_raised_as_they_come(self, number: signal.Signals) -> None:
        reached: list[int] = []

        def training(asked_to: Interrupts) -> None:
            with asked_to.at_once():
                send(number)
                reached.append(1)

        assert end_of(training) is RAISED[number]
        assert reached == []

    def test_one_that_waits_comes_first(self) -> None:
        reached: list[int] = []

        def training(asked_to: Interrupts) -> None:
            send(signal.SIGTERM)
            with asked_to.at_once():
                reached.append(1)

        assert end_of(training) is Terminated
        assert reached == []

    def test_afterwards_they_wait_again(self) -> None:
        noted: list[int] = []

        def training(asked_to: Interrupts) -> None:
            with asked_to.at_once():
                noted.append(0)
            send(signal.SIGINT)
            noted.append(asked_to.asked)

        assert end_of(training) is KeyboardInterrupt
        assert noted == [0, signal.SIGINT]


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL])
def test_what_python_does_not_handle_stays_as_it_is(handler: signal.Handlers) -> None:
    """Ignored, as under nohup and in the background of a script; or deadly."""
    signal.signal(signal.SIGINT, handler)
    with Interrupts() as asked_to:
        assert signal.getsignal(signal.SIGINT) == handler
        if handler == signal.SIG_IGN:
            send(signal.SIGINT)
        assert asked_to.asked == 0
    assert signal.getsignal(signal.SIGINT) == handler


def test_a_signal_that_is_ignored_here_stops_all_the_same_where_the_ranks_agreed() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert end_of(lambda asked_to: asked_to.stop(signal.SIGINT)) is KeyboardInterrupt


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in RAISED]
    with Interrupts():
        assert [signal.getsignal(number) for number in RAISED] != before
    assert end_of(lambda _: 1 // 0) is ZeroDivisionError
    assert [signal.getsignal(number) for number in RAISED] == before


def test_a_thread_sets_no_handlers() -> None:
    """Python lets the main thread alone do so."""
    seen: list[Callable[[int, FrameType | None], object] | int | None] = []

    def run() -> None:
        with Interrupts():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]
