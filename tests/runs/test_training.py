"""A run in one process and in several ranks: checked, stopped anywhere, continued, evaluated."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lshfm import outcome
from lshfm.commands.eval import eval_here
from lshfm.commands.mimic import mimic_here
from lshfm.commands.train import train_here
from lshfm.config.compose import Job, compose, conf_folder
from lshfm.config.words import rewrite
from lshfm.engine.state import State
from lshfm.errors import InputError
from lshfm.outcome import Terminated
from lshfm.ranks import group
from lshfm.ranks.group import PeerLost, Place, rank
from lshfm.runs import checkpoint, training
from lshfm.runs.training import Training, check_training
from lshfm.tasks import networks
from tests.cli.test_runs import assert_same_run
from tests.groups import ends_of, in_ranks
from tests.jobs import CPU, SMALL, jobs, save_trained

RAISED = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}
STEPS = 3
pytestmark = pytest.mark.usefixtures("hydra")


def train_job(*words: str) -> Job:
    """Three epochs of three steps."""
    sizes = ["model=resnet8", "batch_size=8", "eval_batch_size=5", "epochs=3", "log_every=2"]
    return compose("train", rewrite([*SMALL, *sizes, *words]))


def train(job: Job) -> None:
    train_here(job, CPU)


def last(name: str) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(f"outputs/train/{name}/last.ckpt", weights_only=True)
    return content


def place(name: str) -> tuple[int, int]:
    """Epochs and steps that last.ckpt is after."""
    state = last(name)["state"]
    return state["epoch"], state["step"]


class TestChecked:
    @pytest.mark.parametrize(
        ("ranks", "settings", "message"),
        [
            (3, {}, "batch_size=8 is that of all ranks: their number, 3, must divide it"),
            (1, {"accumulate": 3}, "accumulate=3 must divide batch_size=8"),
            (2, {"accumulate": 8}, "accumulate=8 must divide the 4 images of a batch that a rank gets"),
            (2, {"bn_group_size": 3}, r"bn_group_size=3 must divide 4, .*\(batch_size=8, ranks: 2, accumulate=1\)"),
            (2, {"bn_group_size": 4, "accumulate": 2}, "bn_group_size=4 must divide 2, the images that go through the"),
            (1, {"bn_group_size": 16}, "bn_group_size=16 must divide 8"),
        ],
    )
    def test_refusals(self, monkeypatch: pytest.MonkeyPatch, ranks: int, settings: Any, message: str) -> None:
        monkeypatch.setattr(group, "_places", [Place(0, ranks, 0, ranks)])
        with pytest.raises(InputError, match=f"^{message}"):
            check_training(train_job().values | settings, 24)

    @pytest.mark.parametrize(
        ("ranks", "settings"),
        [(1, {}), (4, {"accumulate": 2}), (2, {"bn_group_size": 2, "accumulate": 2}), (8, {"bn_group_size": 1})],
    )
    def test_what_fits(self, monkeypatch: pytest.MonkeyPatch, ranks: int, settings: Any) -> None:
        monkeypatch.setattr(group, "_places", [Place(0, ranks, 0, ranks)])
        check_training(train_job().values | settings, 24)


@pytest.fixture
def handlers() -> Iterator[None]:
    """Signals are handled as in a command, and afterwards as before."""
    before = {number: signal.getsignal(number) for number in RAISED}
    as_in_a_command()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def as_in_a_command() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    outcome.raise_on_sigterm()


def after_step(stop: tuple[int, int], then: Callable[[], None]) -> Callable[..., None]:
    """State.update that does something more at one place of a run."""
    update = State.update

    def updating(state: State, lr: float) -> None:
        update(state, lr)
        if (state.epoch, state.step) == stop:
            then()

    return updating


def send(number: int) -> None:
    os.kill(os.getpid(), number)


class Killed(BaseException):
    """Stands for SIGKILL."""


def kill() -> None:
    raise Killed


def end_of(job: Job, owner: Any, name: str, replacement: Any) -> type[BaseException] | None:
    """What ends a run in which something was replaced."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, replacement)
        try:
            train(job)
        except (KeyboardInterrupt, Terminated, Killed) as end:
            return type(end)
    return None


@pytest.mark.usefixtures("handlers")
class TestStopped:
    @pytest.fixture(autouse=True)
    def whole(self, hydra: None) -> None:
        """The run that nobody stopped."""
        train(train_job("name=whole", "ema=0.9"))

    @pytest.mark.parametrize(
        ("number", "stop"), [(signal.SIGINT, (0, 1)), (signal.SIGTERM, (1, 2)), (signal.SIGTERM, (2, STEPS))]
    )
    def test_after_the_step_at_hand(self, said: list[str], number: int, stop: tuple[int, int]) -> None:
        job = train_job("name=parts", "ema=0.9")
        assert end_of(job, State, "update", after_step(stop, partial(send, number))) is RAISED[number]
        assert place("parts") == stop
        steps = f"epoch {stop[0]} and {stop[1]} steps"
        assert said[-1] == f"stopped; the same command continues after {steps}"
        train(job)
        assert f"continuing after {steps} of 3 epochs" in said
        assert_same_run(Path(), "parts", "whole")

    @pytest.mark.parametrize("number", RAISED)
    def test_within_an_evaluation(self, number: int) -> None:
        """It is not waited for; the epoch's steps are saved, and done once."""
        job, reached = train_job("name=parts", "ema=0.9"), []

        def predict(*_: Any, **__: Any) -> None:
            send(number)
            reached.append("after the signal")

        assert end_of(job, networks, "predict", predict) is RAISED[number]
        assert (place("parts"), reached) == ((0, STEPS), [])
        train(job)
        assert_same_run(Path(), "parts", "whole")

    def test_just_before_an_evaluation(self) -> None:
        job, synchronise = train_job("name=parts", "ema=0.9"), State.synchronise

        def synchronising(state: State) -> None:
            synchronise(state)
            send(signal.SIGTERM)

        assert end_of(job, State, "synchronise", synchronising) is Terminated
        assert place("parts") == (0, STEPS)
        train(job)
        assert_same_run(Path(), "parts", "whole")

    def test_while_the_last_epoch_is_saved(self) -> None:
        job, save = train_job("name=parts", "ema=0.9"), Training._save

        def saving(run: Training, state: State, *told: Any) -> None:
            if state.epoch == 3:
                send(signal.SIGTERM)
            save(run, state, *told)

        assert end_of(job, Training, "_save", saving) is Terminated
        assert place("parts") == (3, 0)
        assert not Path("checkpoints/parts.ckpt").exists()
        train(job)
        assert_same_run(Path(), "parts", "whole")


class TestCheckpointsWithinAnEpoch:
    @pytest.mark.parametrize(
        ("seconds", "kept"), [(0, (1, 0)), (10, (1, 2)), (39, (1, 2)), (40, (1, 0)), (1800, (1, 0))]
    )
    def test_they_are_written_when_it_is_time(
        self, monkeypatch: pytest.MonkeyPatch, seconds: float, kept: tuple[int, int]
    ) -> None:
        """A step takes 20 s, and this run is killed in the third one of its second epoch."""
        now = [0.0]
        job = train_job("name=parts")
        job.values["checkpoint_minutes"] = seconds / 60
        update = State.update

        def slow(state: State, lr: float) -> None:
            now[0] += 20
            if (state.epoch, state.step) == (1, 2):
                raise Killed
            update(state, lr)

        monkeypatch.setattr(training, "time", SimpleNamespace(monotonic=lambda: now[0]))
        assert end_of(job, State, "update", slow) is Killed
        assert place("parts") == kept

    def test_a_killed_run_goes_on_from_the_newest(self) -> None:
        train(train_job("name=whole"))
        job = train_job("name=parts", "checkpoint_minutes=1e-9")
        assert end_of(job, State, "update", after_step((1, 2), kill)) is Killed
        assert place("parts") == (1, 1)
        train(job)
        assert_same_run(Path(), "parts", "whole")


def _stopped(job: Job, stop: tuple[int, int], number: int, who: list[int]) -> None:
    as_in_a_command()
    if rank() in who:
        State.update = after_step(stop, partial(send, number))  # type: ignore[method-assign]
    train(job)


class TestRanks:
    @pytest.mark.parametrize(
        ("number", "stop", "who"),
        [
            (signal.SIGTERM, (1, 1), [1]),
            pytest.param(signal.SIGINT, (1, 1), [0, 1], marks=pytest.mark.slow),
            pytest.param(signal.SIGTERM, (0, STEPS), [0, 1], marks=pytest.mark.slow),
        ],
    )
    def test_stopped_together_and_continued(self, number: int, stop: tuple[int, int], who: list[int]) -> None:
        """It takes a step for all to know."""
        in_ranks(2, train, train_job("name=whole", "ema=0.9"))
        job = train_job("name=parts", "ema=0.9")
        assert [type(end) for end in ends_of(2, _stopped, job, stop, number, who)] == [RAISED[number]] * 2
        assert place("parts") == (stop[0], min(stop[1] + 1, STEPS))
        assert (last("parts")["ranks"], len(last("parts")["state"]["random"])) == (2, 2)
        in_ranks(2, train, job)
        assert_same_run(Path(), "parts", "whole")

    def test_a_run_of_two_is_finished_by_one_and_by_three(self) -> None:
        for ranks in (1, 3):
            job = train_job(f"name=with{ranks}", "batch_size=6")
            ends_of(2, _stopped, job, (1, 1), signal.SIGTERM, [0])
            in_ranks(ranks, train, job)
            results = json.loads(Path(f"outputs/train/with{ranks}/results.json").read_text())
            assert [entry["epoch"] for entry in results["history"]] == [1, 2, 3]

    def test_a_finished_run_says_so_whatever_the_number(self) -> None:
        job = train_job("name=a", "batch_size=6")
        in_ranks(2, train, job)
        before = {path: path.stat().st_mtime_ns for path in Path().rglob("*") if path.is_file()}
        in_ranks(3, train, job)
        train(job)
        assert before == {path: path.stat().st_mtime_ns for path in Path().rglob("*") if path.is_file()}

    def test_what_is_refused_is_refused_once(self) -> None:
        ends = ends_of(3, train, train_job("name=a"))
        assert {str(end) for end in ends} == {"batch_size=8 is that of all ranks: their number, 3, must divide it"}
        assert sorted(end.shown for end in ends) == [False, True, True]
        assert not Path("outputs").exists()

    def test_a_dead_rank_ends_the_others_and_the_run_goes_on(self) -> None:
        in_ranks(2, train, train_job("name=whole"))
        job = train_job("name=parts")
        _, lost = ends_of(2, _stopped, job, (1, 2), signal.SIGKILL, [0])
        assert type(lost) is PeerLost
        assert place("parts") == (1, 0)
        in_ranks(2, train, job)
        assert_same_run(Path(), "parts", "whole")


def _mimic(jobs: list[Job]) -> None:
    with conf_folder():
        mimic_here(jobs, CPU)


def _eval(job: Job, path: Path) -> None:
    with conf_folder():
        eval_here((path, True, job), CPU)


def evaluated(name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    results = json.loads(Path(f"outputs/eval/{name}/results.json").read_text())
    with np.load(f"outputs/eval/{name}/predictions.npz") as file:
        return results["report"], dict(file)


class TestTogether:
    def test_mimic_aligns_and_mimics(self) -> None:
        save_trained("teacher")
        words = ["teacher=teacher", "student=resnet8", "stage=both", "loss=lshl2", "batch_size=8", "loss.hash_num=24"]
        in_ranks(2, _mimic, jobs(*words, "epochs=1", "name=a"))
        first, second = (torch.load(f"checkpoints/a_stage{n}.ckpt", weights_only=True) for n in (1, 2))
        kept = [torch.load(f"outputs/mimic/a_stage{n}/hash.ckpt", weights_only=True)["sha256"] for n in (1, 2)]
        assert kept == [first["constants"]["sha256"]] * 2
        assert second["hardware"]["ranks"] == 2
        assert all("module" not in name for name in second["model"])
        results = json.loads(Path("outputs/mimic/a_stage2/results.json").read_text())
        assert results["report"]["mimicry"]["teacher_mAP"] is not None

    def test_evaluation_gives_the_same_bits(self) -> None:
        path = save_trained("a")
        saved = torch.load(path, weights_only=True)
        words = [f"checkpoint={path}", "dataset=shapes", "model=resnet8", "eval_batch_size=3", *SMALL]
        for ranks in (1, 2, 3, 5):
            job = compose("eval", rewrite([*words, f"name=by{ranks}"]), checkpoint.settings(saved))
            in_ranks(ranks, _eval, job, path)
        report, predictions = evaluated("by1")
        assert predictions["logits"].shape == (12, len(saved["classes"]))
        for ranks in (2, 3, 5):
            other_report, others = evaluated(f"by{ranks}")
            assert other_report == report
            assert all(np.array_equal(others[name], predictions[name]) for name in predictions)
