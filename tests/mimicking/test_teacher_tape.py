"""A teacher's recording: the same run to the bit with no teacher in it; refused where anything differs."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from lshfm.commands.mimic import mimic_here
from lshfm.datasets.loader import Batch
from lshfm.engine.assemble import assemble
from lshfm.engine.step import make_step
from lshfm.errors import InputError, RunFailed
from lshfm.mimicking import tape as tape_module
from lshfm.mimicking.taught import TaughtBatch
from lshfm.objectives.align import Align
from lshfm.objectives.teacher import Recorded, Teacher
from lshfm.objectives.terms import Term, Terms
from tests.jobs import CPU, jobs, network, save_trained
from tests.recording import RecordedGraphs
from tests.runs.test_training import Killed, State, kill

ABOUT = {"time", "seconds", "images_per_second"}
SIZES = ("teacher=resnet8", "student=resnet8", "batch_size=8", "eval_batch_size=5", "epochs=2", "log_every=1",
         "loss.hash_num=16", "dataset.cache_dir=cache")  # fmt: skip
pytestmark = pytest.mark.usefixtures("hydra")


@pytest.fixture(autouse=True)
def teacher(hydra: None) -> None:
    save_trained("its")


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The sizes of the batches that objectives have the teacher look at."""
    sizes: list[int] = []
    forward = Teacher.forward

    def counting(self: Teacher, batch: Any) -> Any:
        sizes.append(len(batch.images))
        return forward(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Teacher, "forward", counting)
        yield sizes


def mimic(name: str, *words: str) -> None:
    mimic_here(jobs(*SIZES, f"name={name}", *words), CPU)


def left(name: str) -> tuple[Any, Any]:
    """A run's lines without times, and its weights."""
    lines = [json.loads(line) for line in Path(f"outputs/mimic/{name}/metrics.jsonl").read_text().splitlines()]
    weights = torch.load(f"checkpoints/{name}.ckpt", weights_only=True)["model"]
    return [{k: v for k, v in line.items() if k not in ABOUT} for line in lines], weights


def assert_same(name: str, other: str) -> None:
    (lines, weights), (other_lines, other_weights) = left(name), left(other)
    assert lines == other_lines
    assert all(torch.equal(weights[key], other_weights[key]) for key in weights)


def tapes() -> list[Path]:
    return sorted(Path("cache/teacher_tapes").iterdir())


@pytest.mark.slow
def test_recorded_and_replayed_runs_are_the_plain_run_to_the_bit(
    monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    """Both stages, two parts a batch, a run that is killed while it records; 3 steps of 8 images an epoch."""
    words = ("accumulate=2",)
    mimic("plain", *words)
    with monkeypatch.context() as patch:
        patch.setattr(State, "advance", dying(State.advance))
        with pytest.raises(Killed):
            mimic("recorded", *words, "teacher_tape=record")
    with counted(monkeypatch) as sizes:
        mimic("recorded", *words, "teacher_tape=record")
    assert sum(sizes) == 24 + 8  # epoch 1 was recorded before, its last batch excepted; stage 2 has stage 1's views
    assert any(line.startswith("teacher tape: recording 2 epochs of 24 images into cache/") for line in said)
    with counted(monkeypatch) as sizes:
        mimic("replayed", *words, "teacher_tape=replay")
        mimic("again", *words, "teacher_tape=record")  # all is there: it is replayed
    assert sizes == []
    for name in ("recorded", "replayed", "again"):
        for stage in ("stage1", "stage2"):
            assert_same(f"{name}_{stage}", f"plain_{stage}")
    assert len(tapes()) == 1
    assert len([line for line in said if line.endswith("training does not run the teacher")]) == 5


def dying(advance: Any) -> Any:
    """Ends after the second step."""

    def advancing(state: Any) -> None:
        advance(state)
        if state.step == 2:
            kill()

    return advancing


REPLAY = ("stage=1", "teacher_tape=replay")


@pytest.fixture
def recorded(teacher: None) -> Path:
    mimic("recorded", "stage=1", "teacher_tape=record")
    (folder,) = tapes()
    return folder


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("seed=1",), r"differs in seed \(0 there, 1 here\)|differs in seed \(0 there, 1 now\)"),
        (("augment.flip=0",), r'differs in augment \(\{"flip": 0.5.*there, \{"flip": 0'),
        (("precision=bf16",), r"differs in precision \(fp32 there, bf16 now\)"),
        (("dataset.num_train=32",), "differs in data "),
        (("dataset.cache_dir=other",), "there is no teacher tape in other/teacher_tapes"),
        (("augment.mixup=0.2",), "teacher_tape=replay: mixup and cutmix mix a picture with others of its batch"),
        (("epochs=4",), r"is not whole for 4 epochs: it has epochs 1-2; of epoch 3, 24 of 24 images are missing"),
    ],
)
def test_another_tape_is_refused_with_the_reason(recorded: Path, words: tuple[str, ...], why: str) -> None:
    with pytest.raises(InputError, match=why):
        mimic("other", *REPLAY, *words)
    assert not Path("outputs/mimic/other_stage1").exists()


def test_another_teacher_is_refused(recorded: Path) -> None:
    save_trained("its", model=network(seed=3))
    with pytest.raises(InputError, match="differs in teacher "):
        mimic("other", *REPLAY)


@pytest.mark.slow
def test_what_is_damaged_ends_a_replay_and_is_mended(recorded: Path) -> None:
    with (recorded / "epoch-0002.f32").open("r+b") as file:
        file.seek(9)
        file.write(b"\xff\xfe")
    with pytest.raises(RunFailed, match=r"epoch-0002.f32 is damaged at 1 sample: teacher_tape=record mends it"):
        mimic("replayed", *REPLAY)
    mimic("mended", "stage=1", "teacher_tape=record")
    mimic("whole", *REPLAY)
    assert_same("whole_stage1", "recorded_stage1")


def test_a_step_that_is_recorded_as_a_graph_reads_each_batchs_own_outputs() -> None:
    """The outputs are columns of the batch; nothing is looked up within the step."""
    steps = []
    for graphs in (None, RecordedGraphs()):
        torch.manual_seed(0)
        align = Align(network(1, projection=64), Recorded(64), Terms([Term("l2", 1.0, torch.nn.MSELoss())]))
        state = assemble(align, optimizer="sgd", momentum=0.9, weight_decay=0.0, capturable=True)
        step, losses = make_step(state, capture=graphs), []
        for number in range(3):
            generator = torch.Generator().manual_seed(number)
            images, outputs = torch.randn(4, 3, 16, 16, generator=generator), torch.randn(4, 74, generator=generator)
            batch = Batch(torch.arange(4), images, torch.zeros(4, 1), 0)
            taught = TaughtBatch(batch, outputs[:, :64].contiguous(), outputs[:, 64:].contiguous())
            losses.append(step(taught, 0.1)["l2"].item())
        steps.append(losses)
    assert steps[0] == pytest.approx(steps[1], rel=1e-6)
    assert graphs is not None
    assert (graphs.recorded, graphs.replayed) == (1, 3)


def test_a_disk_without_room_is_told_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 5000})())
    with pytest.raises(InputError, match=r"no room for the teacher tape in cache/teacher_tapes: it needs 0.00 GB"):
        mimic("recorded", "stage=1", "teacher_tape=record")
    assert not Path("cache/teacher_tapes").exists()


def test_ranks_of_several_machines_do_not_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tape_module, "place", lambda: type("Place", (), {"local_num": 2})())
    with pytest.raises(InputError, match="teacher_tape=record takes ranks of one machine"):
        mimic("recorded", "stage=1", "teacher_tape=record")


def test_spans_of_epochs() -> None:
    assert tape_module._spans([1, 2, 3, 5, 7, 8]) == "epochs 1-3, 5, 7-8"
    assert tape_module._spans([]) == "no whole epoch"
