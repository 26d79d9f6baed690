"""What of speed=fast needs a GPU: graphs beside eager steps, no waiting, the kernels of the augmentation, the store."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.speed.arms import Watched
from lshfm.datasets.augment import Augment
from lshfm.datasets.fused import FusedView
from lshfm.datasets.loader import Batch, Loader, StoredPixels, View
from lshfm.datasets.resident import ResidentPixels, resident
from lshfm.datasets.shapes import Shapes
from lshfm.datasets.store import open_store
from lshfm.engine.assemble import assemble
from lshfm.engine.graphs import no_waiting
from lshfm.engine.schedule import learning_rate
from lshfm.engine.state import State
from lshfm.engine.step import make_step
from lshfm.losses.classification import ASL, BCE
from lshfm.losses.features import L2
from lshfm.losses.logits import SigmoidKL
from lshfm.losses.lsh import LSH, HashFunctions, draw_weights
from lshfm.models.cifar import cifar_classifier
from lshfm.objectives.align import Align
from lshfm.objectives.learner import Learner
from lshfm.objectives.mimic import Mimic
from lshfm.objectives.supervised import Supervised
from lshfm.objectives.teacher import Teacher
from lshfm.objectives.terms import Term, Terms

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")]

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STEPS, SIZE = 50, 16
SCHEDULE = learning_rate(0.05, cosine_epochs=1, warmup=0.1)


@pytest.fixture
def repeatable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """fp32 without TF32, and algorithms that repeat their bits."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.benchmark
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.benchmark = before


def batches(start: int = 0) -> Iterator[Batch]:
    for number in range(start, STEPS):
        generator = torch.Generator().manual_seed(number)
        images = torch.randn(SIZE, 3, 32, 32, generator=generator).cuda()
        labels = torch.randint(-1, 2, (SIZE, 12), generator=generator).to(torch.int8).cuda()
        yield Batch(torch.arange(SIZE), images.to(memory_format=torch.channels_last), labels, epoch=0)


def objective(kind: str, precision: str = "fp32") -> Learner:
    torch.manual_seed(3)
    student, teacher = cifar_classifier("resnet8", 12, projection=64), cifar_classifier("resnet14", 12)
    student.dropout = nn.Dropout(0.3)
    functions = HashFunctions(draw_weights(256, 64, 0.1, seed=0), torch.zeros(256), std=0.1, seed=0, rule="zero")
    features = Terms([Term("lsh", 1.0, LSH(functions)), Term("l2", 0.5, L2())])
    if kind == "align":
        made: Learner = Align(student, Teacher(teacher, precision=precision), features, precision=precision)
    elif kind == "mimic":
        made = Mimic(
            student, Teacher(teacher, precision=precision), label_loss=BCE([2.0] * 12), label_name="bce", gamma=1.0,
            feature_terms=features, logit_terms=Terms([Term("kl", 0.1, SigmoidKL())]), precision=precision,
        )  # fmt: skip
    else:
        made = Supervised(student, ASL(), "asl", freeze=("bn_stats",), precision=precision)
    return made.cuda().to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def made(kind: str, *, precision: str = "fp32", **parts: Any) -> State:
    parts = {"optimizer": "sgd", "ema": 0.9} | parts
    return assemble(objective(kind, precision), momentum=0.9, weight_decay=1e-4, capturable=True, **parts)


def losses(
    state: State, *, capture: bool, stop: int = STEPS, breaks: bool = False, **step: Any
) -> list[dict[str, float]]:
    graphs = Watched() if capture else None  # a recording that fails goes on eagerly, and would equal the eager steps
    train, found = make_step(state, capture=graphs, **step), []
    state.objective.train()
    torch.cuda.manual_seed(9 + state.step)
    for batch in batches(state.step):
        if state.step == stop:
            break
        found.append(train(batch, SCHEDULE(state.step / STEPS)))
    assert graphs is None or graphs.has_recorded == (not breaks)
    assert all(network.is_compiled for network in state.compiled)
    return [{name: loss.item() for name, loss in each.items()} for each in found]


@pytest.mark.parametrize(
    ("kind", "parts", "step"),
    [
        ("mimic", {}, {}),
        ("mimic", {"optimizer": "adamw", "ema": 0.0}, {"clip_grad": 0.5, "accumulate": 2}),
        ("align", {"optimizer": "adam"}, {}),
        ("train", {"head_lr": 10.0}, {"clip_grad": 0.5}),
    ],
)
def test_a_graph_equals_eager_steps(kind: str, parts: dict[str, Any], step: dict[str, Any], repeatable: None) -> None:
    eager, captured = made(kind, **parts), made(kind, **parts)
    ours, theirs = losses(captured, capture=True, **step), losses(eager, capture=False, **step)
    for a, b in zip(ours, theirs, strict=True):
        assert a == pytest.approx(b, rel=1e-6)
    for p, q in zip(captured.model.parameters(), eager.model.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("onwards", [True, False])
def test_a_captured_run_goes_on_captured_or_not(onwards: bool, repeatable: None, tmp_path: Path) -> None:
    whole, first, second = made("mimic"), made("mimic"), made("mimic")
    losses(whole, capture=True, stop=25)
    after = losses(whole, capture=True)
    losses(first, capture=True, stop=25)
    first.synchronise()
    torch.save(first.state_dict(), tmp_path / "last.ckpt")
    second.load_state_dict(torch.load(tmp_path / "last.ckpt", weights_only=True))
    for a, b in zip(losses(second, capture=onwards), after, strict=True):
        assert a == pytest.approx(b, rel=1e-6)


class Breaks(Supervised):
    """Does what no capture survives, and what is found only while capturing."""

    def forward(self, batch: Any) -> dict[str, torch.Tensor]:
        torch.cuda.synchronize()
        return super().forward(batch)


def test_training_goes_on_after_a_capture_that_breaks(repeatable: None) -> None:
    """With its random numbers, on its stream, and without keeping the memory of batches."""
    found, held = [], []
    for capture in (True, False):
        torch.manual_seed(3)
        network = cifar_classifier("resnet8", 12)
        network.dropout = nn.Dropout(0.3)
        breaks = Breaks(network, ASL(), "asl").cuda()
        state = assemble(breaks, optimizer="sgd", momentum=0.9, weight_decay=0.0, capturable=True)
        found.append(losses(state, capture=capture, breaks=True))
        assert torch.cuda.current_stream() == torch.cuda.default_stream()
        held.append(torch.cuda.memory_allocated())
        del state, breaks, network
    for a, b in zip(*found, strict=True):
        assert a == pytest.approx(b, rel=1e-6)
    assert held[0] < 2 * held[1]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> StoredPixels:
    images = Shapes(num_train=256, num_eval=4).split("train").images
    folder = tmp_path_factory.mktemp("stores")
    return StoredPixels(open_store(images, 32, folder, name="a", workers=0, report=lambda *_: None), pinned=True)


def loader(pixels: Any, view: View) -> Loader:
    labels = Shapes(num_train=256, num_eval=4).split("train").labels
    device = torch.device("cuda", torch.cuda.current_device())
    return Loader(pixels, labels, batch_size=SIZE, device=device, view=view, shuffle=True, drop_last=True)


@pytest.mark.parametrize("capture", [False, True])
@pytest.mark.parametrize("kind", ["mimic", "align", "train"])
@pytest.mark.parametrize("where", ["disk", "device"])
def test_no_step_waits_for_the_device(kind: str, capture: bool, where: str, stored: StoredPixels) -> None:
    """Loading, augmenting, and everything that a step does."""
    pixels = stored if where == "disk" else resident(stored, torch.device("cuda"), "device")[0]
    state, graphs = made(kind, optimizer="adamw"), Watched() if capture else None
    train = make_step(state, clip_grad=1.0, capture=graphs)
    batches = loader(pixels, FusedView(MEAN, STD, Augment())).epoch(0)
    state.objective.train()
    for number in range(10):  # what is first used, compiled and recorded may wait
        with contextlib.nullcontext() if number < 4 else no_waiting():
            train(next(batches), 0.01)
    assert graphs is None or graphs.has_recorded


@pytest.mark.filterwarnings("default")  # of compilers
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("size", [32, 448])
def test_the_kernels_equal_the_cpu(channels_last: bool, size: int) -> None:
    pixels = torch.randint(0, 256, (8, size, size, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    view, index = FusedView(MEAN, STD, Augment(), channels_last), torch.arange(8)
    view(pixels.cuda(), index, seed=1, epoch=0)
    assert view.is_fused
    made = view(pixels.cuda(), index, seed=1, epoch=1).cpu()
    plain = View(MEAN, STD, Augment(), channels_last)(pixels, index, seed=1, epoch=1)
    assert made.stride() == plain.stride()
    difference = (made - plain).abs() * torch.tensor(STD).view(3, 1, 1) * 255
    assert difference.max() < 1.01
    assert (difference > 0.5).float().mean() < 1e-5


def test_a_store_on_the_device_gives_the_same_batches(stored: StoredPixels) -> None:
    there, sentence = resident(stored, torch.device("cuda"), "auto")
    assert isinstance(there, ResidentPixels)
    assert there.pixels.is_cuda
    assert "The store lies in the memory of cuda" in sentence
    view = View(MEAN, STD, Augment())
    for a, b in zip(loader(there, view).epoch(2), loader(stored, view).epoch(2), strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.labels, b.labels)
        assert np.array_equal(a.index, b.index)


@pytest.mark.filterwarnings("default")  # of compilers
def test_compiled_networks_give_about_the_same_losses() -> None:
    """In bf16, compiled and captured, as speed=fast does it."""
    plain = losses(made("mimic", precision="bf16"), capture=False)
    fast = losses(made("mimic", precision="bf16", compile_teacher=True, compile_student=True), capture=True)
    for a, b in zip(fast[:10], plain[:10], strict=True):
        assert a == pytest.approx(b, rel=0.05)
