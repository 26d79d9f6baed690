"""Arms: the same training step written in several ways, on the same resident batch."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from benchmarks.speed.machine import device
from benchmarks.speed.photos import CLASSES
from benchmarks.speed.published import PublishedStep
from lshfm.datasets.loader import Batch
from lshfm.engine.assemble import assemble
from lshfm.engine.compiled import Compiled
from lshfm.engine.graphs import CudaGraphs
from lshfm.engine.step import make_step
from lshfm.losses.classification import BCE
from lshfm.losses.features import L2
from lshfm.losses.lsh import LSH, HashFunctions, draw_weights
from lshfm.mimicking.taught import TaughtBatch
from lshfm.models.backbones import TORCHVISION, torchvision_classifier
from lshfm.models.cifar import cifar_classifier
from lshfm.objectives.align import Align
from lshfm.objectives.learner import Learner
from lshfm.objectives.mimic import Mimic
from lshfm.objectives.supervised import Supervised
from lshfm.objectives.teacher import Recorded, Teacher
from lshfm.objectives.terms import Term, Terms
from lshfm.ranks.device import is_better_in_bf16, missing_compiler

HASH_NUM = 2048


@dataclass(frozen=True)
class Pair:
    """What is trained: a student, beside a teacher or alone (stage 0), in batches of pictures of one size."""

    teacher: str | None
    student: str
    batch: int
    size: int
    stage: int

    @property
    def name(self) -> str:
        """As in the names of parts."""
        pair = f"{self.teacher}_{self.student}" if self.teacher else self.student
        return f"{pair}_{self.batch}" + (f"_stage{self.stage}" if self.teacher else "")

    def networks(self) -> tuple[nn.Module, nn.Module | None]:
        """Student and teacher with fresh weights of a seed, on whatever device is the default."""
        torch.manual_seed(0)
        teacher = build(self.teacher) if self.teacher else None
        width = int(teacher.num_features) if teacher is not None else None  # type: ignore[arg-type]
        return build(self.student, width), teacher


@dataclass(frozen=True)
class Arm:
    """How a step is written. gates: what must hold for its figures to count."""

    name: str
    precision: str = "fp32"
    channels_last: bool = False
    cast_once: bool = False  # the teacher's weights
    capturable: bool = False  # its optimiser, as of arms with a graph
    graph: bool = False
    compiled_teacher: bool = False
    compiled_student: bool = False
    tape: bool = False
    published: bool = False

    @property
    def gates(self) -> tuple[str, ...]:
        """Names in `gates`."""
        if self.published:
            return ()
        needs = {"bf16": self.precision == "bf16", "cast": self.cast_once, "graph": self.graph, "tape": self.tape}
        return ("pixels", "stage1", *(name for name, is_needed in needs.items() if is_needed))


def ladder(pair: Pair, *, short: bool) -> list[Arm]:
    """The arms that the machine can run, each with something more than the one before.

    Nothing is compiled if `short`; on a CPU, where that takes long and gains little, in stage 2 alone.
    """
    is_gpu, is_taught = device().type == "cuda", pair.teacher is not None
    may_compile = not short and (is_gpu or pair.stage == 2) and not missing_compiler(device())
    exact = Arm("exact fp32")
    arms = [Arm("P0", published=True), exact]
    last = replace(exact, channels_last=True, name="channels_last")
    if is_better_in_bf16(device()):
        last = replace(last, precision="bf16", name="bf16 + channels_last")
    arms.append(last)
    if is_taught and last.precision == "bf16":
        last = replace(last, cast_once=True, name="+ teacher cast once")
        arms.append(last)
    if is_gpu:
        last = replace(last, graph=True, name="+ graph")
        arms.append(last)
    if may_compile:
        if is_taught:
            last = replace(last, compiled_teacher=True, name="+ compiled teacher")
            arms.append(last)
        last = replace(last, compiled_student=True, name="+ compiled student")
        arms.append(last)
    if is_taught:
        arms.append(replace(last, tape=True, cast_once=False, compiled_teacher=False, name="+ tape"))
    return arms


def build(arch: str, projection: int | None = None) -> nn.Module:
    """A network by its name."""
    make = torchvision_classifier if arch in TORCHVISION else cifar_classifier
    return make(arch, CLASSES, projection=projection)


class Watched(CudaGraphs):
    """Graphs of which one knows whether any was recorded."""

    has_recorded = False

    def record(self, work: Callable[[], object]) -> Callable[[], None]:
        """As of all graphs."""
        replay = super().record(work)
        self.has_recorded = True
        return replay


@dataclass(frozen=True)
class Made:
    """One step of an arm on its resident batch."""

    step: Callable[[], Any]
    graphs: Watched | None = None
    compiled: Sequence[Compiled] = ()

    def __call__(self) -> Any:
        return self.step()

    @property
    def lacks(self) -> str:
        """After a step, what the arm is named for and goes without, as the log has said; "" for nothing."""
        is_uncaptured = self.graphs is not None and not self.graphs.has_recorded
        is_uncompiled = not all(network.is_compiled for network in self.compiled)
        return " and ".join(["not captured"] * is_uncaptured + ["not compiled"] * is_uncompiled)


def step_of(arm: Arm, pair: Pair, pool: Any = None) -> Made:
    """One step of the arm on its resident batch. pool: as of CudaGraphs."""
    place = device()
    torch.manual_seed(1)
    images, labels = torch.randn(pair.batch, 3, pair.size, pair.size), torch.randint(-1, 2, (pair.batch, CLASSES))
    order = torch.channels_last if arm.channels_last else torch.contiguous_format
    images = images.to(place, memory_format=order)
    student, teacher = (network and network.to(place).to(memory_format=order) for network in pair.networks())
    assert student is not None
    if arm.published:
        published = PublishedStep(student, teacher, pair.stage, HASH_NUM)
        targets = (labels > 0).float().to(place)
        return Made(lambda: published(images, targets))
    batch: Any = Batch(torch.arange(pair.batch), images, labels.to(torch.int8).to(place), 0)
    state = assemble(
        objective(arm, pair, student, teacher).to(place), optimizer="sgd", momentum=0.9, weight_decay=1e-5,
        capturable=arm.capturable or arm.graph, compile_teacher=arm.compiled_teacher,
        compile_student=arm.compiled_student,
    )  # fmt: skip
    state.begin_epoch()
    if arm.tape:
        assert teacher is not None
        with torch.no_grad():
            batch = TaughtBatch(batch, *(output.float() for output in teacher.eval()(images)))
    graphs = Watched(pool) if arm.graph else None
    step = make_step(state, capture=graphs)
    return Made(lambda: step(batch, 0.001), graphs, state.compiled)


def objective(arm: Arm, pair: Pair, student: nn.Module, teacher: nn.Module | None) -> Learner:
    """What the project trains in this stage, with the losses of LSHL2."""
    if teacher is None:
        return Supervised(student, BCE(), "bce", precision=arm.precision)
    width = int(teacher.num_features)  # type: ignore[arg-type]
    functions = HashFunctions(draw_weights(HASH_NUM, width, 0.02, 0), torch.zeros(HASH_NUM), 0.02, 0, "zero")
    taught = Recorded(width) if arm.tape else Teacher(teacher, precision=arm.precision)
    sample = torch.randn(2, 3, pair.size, pair.size, device=device())
    if arm.cast_once and isinstance(taught, Teacher) and not taught.cast_once(sample):
        print(f"{pair.name}: cast once the teacher has other outputs, so it is cast in every step", file=sys.stderr)
    if pair.stage == 1:
        return Align(student, taught, Terms([Term("l2", 1.0, L2())]), precision=arm.precision)
    terms = Terms([Term("l2", 1.0, L2()), Term("lsh", 1.0, LSH(functions))])
    return Mimic(
        student, taught, label_loss=BCE(), label_name="bce", gamma=1.0, feature_terms=terms, logit_terms=Terms([]),
        precision=arm.precision,
    )  # fmt: skip


@contextmanager
def peak_memory(found: dict[str, float | None], name: str) -> Iterator[None]:
    """The most GPU memory in MiB that the block takes beside what was there; None on a CPU."""
    if device().type != "cuda":
        found[name] = None
        yield
        return
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    yield
    found[name] = round((torch.cuda.max_memory_allocated() - before) / 2**20)
