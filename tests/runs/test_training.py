"""A run in one process and in several ranks: checked, stopped anywhere, continued, evaluated."""

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lshfm import __version__, outcome
from lshfm.commands.eval import eval_here
from lshfm.commands.mimic import mimic_here
from lshfm.commands.train import train_here
from lshfm.config.compose import Job, compose
from lshfm.config.schema import Eval, Mimic, Train
from lshfm.config.words import rewrite
from lshfm.engine import timed
from lshfm.engine.state import Evaluation, State
from lshfm.outcome import Terminated
from lshfm.ranks.group import PeerLost, rank
from lshfm.runs import training
from lshfm.runs.checkpoint import Checkpoint
from lshfm.runs.record import Results
from lshfm.runs.training import TrainingRun
from lshfm.tasks import images as of_images
from lshfm.tasks.networks import place as place_network
from lshfm.tasks.task import open_task
from tests.cli.test_runs import assert_same_run
from tests.groups import ends_of, in_ranks
from tests.jobs import CPU, SMALL, after_step, changed_job, jobs, save_trained

RAISED = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}
STEPS = 3
pytestmark = pytest.mark.usefixtures("hydra")


def train_job(*words: str) -> Job[Train]:
    """Three epochs of three steps."""
    sizes = ["model=resnet8", "batch_size=8", "eval_batch_size=5", "epochs=3", "log_every=2"]
    return compose(Train, rewrite("train", [*SMALL, *sizes, *words]))


def train(job: Job[Train]) -> None:
    train_here(job, CPU)


def last(name: str) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(f"outputs/train/{name}/last.ckpt", weights_only=True)
    return content


def place(name: str) -> tuple[int, int]:
    """Epochs and steps that last.ckpt is after."""
    state = last(name)["state"]
    return state["epoch"], state["step"]


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


def send(number: int) -> None:
    os.kill(os.getpid(), number)


class Killed(BaseException):
    """Stands for SIGKILL."""


def kill() -> None:
    raise Killed


def end_of(job: Job[Train], owner: Any, name: str, replacement: Any) -> type[BaseException] | None:
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

        assert end_of(job, of_images, "predict", predict) is RAISED[number]
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
        job, save = train_job("name=parts", "ema=0.9"), TrainingRun._save

        def saving(run: TrainingRun, state: State, *told: Any) -> None:
            if state.epoch == 3:
                send(signal.SIGTERM)
            save(run, state, *told)

        assert end_of(job, TrainingRun, "_save", saving) is Terminated
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
        job = changed_job(train_job("name=parts"), {"checkpoint_minutes": seconds / 60})
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


def _stopped(job: Job[Train], stop: tuple[int, int], number: int, who: list[int]) -> None:
    as_in_a_command()
    if rank() in who:
        State.update = after_step(stop, partial(send, number))  # type: ignore[method-assign]
    train(job)


class TestRanks:
    @pytest.mark.slow
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

    @pytest.mark.slow
    def test_a_run_of_two_is_finished_by_one_and_by_three(self) -> None:
        for ranks in (1, 3):
            job = train_job(f"name=with{ranks}", "batch_size=6")
            ends_of(2, _stopped, job, (1, 1), signal.SIGTERM, [0])
            in_ranks(ranks, train, job)
            results = json.loads(Path(f"outputs/train/with{ranks}/results.json").read_text())
            assert [entry["epoch"] for entry in results["history"]] == [1, 2, 3]

    @pytest.mark.slow
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

    @pytest.mark.slow
    def test_a_dead_rank_ends_the_others_and_the_run_goes_on(self) -> None:
        in_ranks(2, train, train_job("name=whole"))
        job = train_job("name=parts")
        _, lost = ends_of(2, _stopped, job, (1, 2), signal.SIGKILL, [0])
        assert type(lost) is PeerLost
        assert place("parts") == (1, 0)
        in_ranks(2, train, job)
        assert_same_run(Path(), "parts", "whole")


def kept(folder: str) -> dict[str, np.ndarray]:
    """The arrays of a finished run's predictions.npz."""
    with np.load(f"outputs/{folder}/predictions.npz") as file:
        return dict(file)


def given_by(name: str, job: Job[Any]) -> dict[str, np.ndarray]:
    """What a finished checkpoint's network gives for the test split."""
    settings = job.settings
    task, path = open_task(settings.dataset), Path(f"checkpoints/{name}.ckpt")
    train, test = task.read(settings.dataset, [settings.dataset.train_split, settings.dataset.eval_split])
    network = Checkpoint.open(path).network(task, test.classes, settings.dataset.size, cannot="cannot")
    data = task.training_data(train, test, settings, CPU)
    _, arrays = task.evaluator(data.test, test, settings.dataset.metric, settings.precision)(
        place_network(network, CPU, channels_last=settings.channels_last)
    )
    assert np.array_equal(arrays["targets"], test.labels)
    return arrays | {"classes": np.array(test.classes), "ids": np.array(test.ids)}


def assert_same_arrays(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def worse_and_worse(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first epoch is the best."""
    end_epoch = State.end_epoch

    def ending(state: State, evaluation: Evaluation) -> bool:
        return end_epoch(state, replace(evaluation, score=-float(state.epoch)))

    monkeypatch.setattr(State, "end_epoch", ending)


class TestFinished:
    def test_its_results(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A step takes 20 s, an evaluation 7 s."""
        now, update, predict = [0.0], State.update, of_images.predict

        def slow(state: State, lr: float) -> None:
            now[0] += 20
            update(state, lr)

        def looking(*arguments: Any, **keywords: Any) -> Any:
            now[0] += 7
            return predict(*arguments, **keywords)

        monkeypatch.setattr(timed, "time", SimpleNamespace(monotonic=lambda: now[0]))
        monkeypatch.setattr(State, "update", slow)
        monkeypatch.setattr(of_images, "predict", looking)
        typed = ("lshfm", "train", "name=a", "note='as it was typed'")
        train(replace(train_job("name=a"), typed=typed))
        results = Results.read(Path("outputs/train/a/results.json"))
        assert results.command_line == list(typed)
        assert (results.name, results.command, results.dataset, results.lshfm) == ("a", "train", "shapes", __version__)
        assert (results.training_seconds, results.evaluation_seconds) == (9 * 20, 3 * 7)
        assert results.images_per_second == round(3 * STEPS * 8 / 180, 2)
        assert results.peak_memory
        assert results.peak_memory.keys() == {"host_MiB", "gpu_MiB"}
        assert (results.peak_memory["host_MiB"] or 0) > 0
        assert results.peak_memory["gpu_MiB"] is None
        assert results.history
        assert [entry["epoch"] for entry in results.history] == [1, 2, 3]
        assert (results.epoch, results.split, results.score) == (3, "test", results.report["mAP"])
        assert (results.checkpoint, results.best) == (
            "checkpoints/a.ckpt",
            max(results.history, key=lambda entry: entry["score"]),
        )

    @pytest.mark.parametrize(
        ("words", "epoch"),
        [
            ([], 3),
            pytest.param(["ema=0.5"], 3, marks=pytest.mark.slow),
            pytest.param(["dataset.holdout=0.25", "batch_size=6"], 3, marks=pytest.mark.slow),
            pytest.param(["select=best", "allow_test=true"], 1, marks=pytest.mark.slow),
            (["select=best", "dataset.holdout=0.25", "batch_size=6"], 1),
        ],
    )
    def test_its_predictions_are_those_of_its_checkpoint(
        self, monkeypatch: pytest.MonkeyPatch, words: list[str], epoch: int
    ) -> None:
        """Also where the run is finished by another call, with no evaluation at hand."""
        worse_and_worse(monkeypatch)
        job = train_job("name=whole", *words)
        train(job)
        whole = kept("train/whole")
        assert Results.read(Path("outputs/train/whole/results.json")).epoch == epoch
        assert whole["logits"].dtype == np.float32
        assert_same_arrays(whole, given_by("whole", job))
        cut = train_job("name=parts", *words)
        assert end_of(cut, TrainingRun, "_finish", lambda _: kill()) is Killed
        assert place("parts") == (3, 0)
        train(cut)
        assert_same_arrays(kept("train/parts"), whole)
        assert_same_run(Path(), "parts", "whole")

    @pytest.mark.parametrize(
        "words", [[], pytest.param(["dataset.holdout=0.25", "batch_size=6"], marks=pytest.mark.slow)]
    )
    def test_both_stages_keep_what_was_compared(self, monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
        save_trained("teacher")
        pair = ["teacher=teacher", "student=resnet8", "loss=lshl2", "loss.hash_num=24", "epochs=1", "batch_size=8"]
        both = jobs(*pair, "stage=both", "name=a", *words)
        mimic_here(both, CPU)
        for stage, job in zip("12", both, strict=True):
            name = f"a_stage{stage}"
            found, own = kept(f"mimic/{name}"), given_by(name, job)
            assert found.keys() == own.keys() | {"angle", "relative_length", "equal_bits"}
            assert all(np.array_equal(found[key], own[key]) for key in own)
            mimicry = Results.read(Path(f"outputs/mimic/{name}/results.json")).report["mimicry"]
            images = len(found["ids"])
            assert images == 12
            assert mimicry["hash_agreement"] == 100 * found["equal_bits"].sum() / images
            for key in ("angle", "relative_length"):
                assert found[key].shape == (images,)
                assert mimicry[key] == found[key].mean()
        with monkeypatch.context() as patch:
            patch.setattr(TrainingRun, "_finish", lambda _: kill())
            with pytest.raises(Killed):
                mimic_here(jobs(*pair, "stage=1", "name=b", *words), CPU)
        mimic_here(jobs(*pair, "stage=1", "name=b", *words), CPU)
        assert_same_arrays(kept("mimic/b_stage1"), kept("mimic/a_stage1"))


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        ([], ["train on train: 24 of 24 images", "test on test: 12 of 12 images"]),
        (
            ["dataset.holdout=0.25"],
            ["train on train: 17 of 24 images", "validate on 7 images held out", "test on test: 12 of 12 images"],
        ),
        (["batch_size=10"], ["train on train: 24 of 24", "every epoch leaves 4 of them out", "test on test: 12"]),
        (["batch_size=10", "drop_last=false"], ["train on train: 24 of 24 images", "test on test: 12 of 12 images"]),
    ],
)
def test_its_data_is_announced(said: list[str], words: list[str], lines: list[str]) -> None:
    train(train_job("name=a", "epochs=1", *words))
    first = next(number for number, line in enumerate(said) if line.startswith("run folder outputs/train/a; "))
    announced = said[first + 1 : first + 1 + len(lines)]
    assert all(line.startswith(start) for line, start in zip(announced, lines, strict=True))
    assert not any(line.startswith(("validate on", "train on", "test on")) for line in said[first + 1 + len(lines) :])


def _mimic(jobs: list[Job[Mimic]]) -> None:
    mimic_here(jobs, CPU)


def _eval(job: Job[Eval], path: Path) -> None:
    eval_here((path, job), CPU)


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

    @pytest.mark.slow
    def test_evaluation_gives_the_same_bits(self) -> None:
        path = save_trained("a")
        saved = torch.load(path, weights_only=True)
        words = [f"checkpoint={path}", "dataset=shapes", "model=resnet8", "eval_batch_size=3", *SMALL]
        for ranks in (1, 2, 3, 5):
            job = compose(Eval, rewrite("eval", [*words, f"name=by{ranks}"]), Checkpoint.of(path, saved).saved())
            in_ranks(ranks, _eval, job, path)
        report, predictions = evaluated("by1")
        assert predictions["logits"].shape == (12, len(saved["classes"]))
        for ranks in (2, 3, 5):
            other_report, others = evaluated(f"by{ranks}")
            assert other_report == report
            assert all(np.array_equal(others[name], predictions[name]) for name in predictions)
