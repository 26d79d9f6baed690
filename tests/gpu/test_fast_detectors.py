"""What detection needs a GPU to show: batches sent at once, hashes of windows in bf16, fast steps beside exact ones."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lshfm.datasets.box_loader import BoxBatch, BoxLoader, BoxView, DecodedPictures, Drawn
from lshfm.engine.assemble import assemble
from lshfm.engine.compiled import of_any_shape
from lshfm.engine.step import make_step
from lshfm.losses.lsh import LSH, HashFunctions, draw_weights
from lshfm.losses.windows import WindowLSH
from lshfm.models.detection.build import detector
from lshfm.objectives.detection import DetectorTeacher, MimicDetect
from lshfm.objectives.terms import Term, Terms
from tests.datasets.test_box_loader import split_of

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")]

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
LEVELS = ((100, 136), (50, 68), (25, 34), (13, 17), (7, 9))  # of 800 x 1088 pixels


def test_batches_of_boxes_are_the_cpus(tmp_path: Path) -> None:
    """Sent in one copy, made one ahead on another stream."""
    split, view = split_of(tmp_path), BoxView((0.5, 0.4, 0.3), (0.2, 0.3, 0.4), 0.5)

    def batches(device: torch.device) -> list[BoxBatch]:
        loader = BoxLoader(
            DecodedPictures(split.images), split, batch_size=2, device=device, view=view, shuffle=True, sizes=[16, 24]
        )
        return [*loader.epoch(0), *loader.epoch(1)]

    for ours, theirs in zip(batches(GPU), batches(CPU), strict=True):
        assert ours.draws == theirs.draws
        for name, column in ours.columns.items():
            assert column.device == GPU
            torch.testing.assert_close(column.cpu(), theirs.columns[name], rtol=0, atol=1e-6)


def term(num: int, channels: int) -> WindowLSH:
    drawn = draw_weights(num, 9 * channels, 0.02, 0)
    return WindowLSH(LSH(HashFunctions(drawn, torch.zeros(num), 0.02, 0, "zero")))


def maps(images: int, channels: int, seed: int, levels: tuple[tuple[int, int], ...]) -> list[Tensor]:
    torch.manual_seed(seed)
    return [torch.randn(images, channels, *each).relu() for each in levels]


def kept(levels: list[Tensor]) -> list[Tensor]:
    return [torch.ones(len(each), *each.shape[2:], dtype=torch.bool, device=each.device) for each in levels]


def computed(loss: WindowLSH, device: torch.device) -> tuple[float, Tensor]:
    levels = ((24, 20), (12, 10), (3, 2), (1, 1))
    ours, theirs = ([each.to(device) for each in maps(2, 32, seed, levels)] for seed in (0, 1))
    for each in ours:
        each.requires_grad_()
    value = loss.to(device)(ours, theirs, kept(ours))
    value.backward()
    return value.item(), torch.cat([each.grad.flatten().cpu() for each in ours])


@pytest.mark.filterwarnings("default")  # of compilers
@pytest.mark.parametrize("compiled", [False, True])
def test_hashes_in_bf16_are_close_to_the_cpus_in_fp32(compiled: bool) -> None:
    fast = term(600, 32)
    fast.hasten(bf16=True, compiled=compiled)
    before = fast.compare
    value, slopes = computed(fast, GPU)
    expected, gradient = computed(term(600, 32), CPU)
    assert fast.products == torch.bfloat16
    assert (fast.compare is not before) == compiled
    assert value == pytest.approx(expected, rel=5e-3)
    assert F.cosine_similarity(slopes, gradient, dim=0) > 0.999


def test_the_term_of_a_published_batch_stays_below_a_gibibyte() -> None:
    loss = term(4096, 256).to(GPU)
    loss.products = torch.bfloat16
    ours, theirs = ([each.to(GPU) for each in maps(8, 256, seed, LEVELS)] for seed in (0, 1))
    for each in ours:
        each.requires_grad_()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    loss(ours, theirs, kept(ours)).backward()
    assert torch.cuda.max_memory_allocated() - before < 2**30


def batch(device: torch.device) -> BoxBatch:
    rng = np.random.default_rng(0)
    images = [
        torch.from_numpy(rng.normal(size=(3, *size)).astype(np.float32)).to(device) for size in ((96, 120), (80, 64))
    ]
    boxes = [torch.tensor([[8.0, 10, 60, 70]]), torch.zeros(0, 4)]
    targets = [
        {"boxes": each.to(device), "labels": torch.ones(len(each), dtype=torch.int64, device=device)} for each in boxes
    ]
    return BoxBatch(torch.arange(2), images, targets, [Drawn(96, 1), Drawn(80, 2)], 0, 1.0)


@pytest.mark.filterwarnings("default")  # of compilers
@pytest.mark.parametrize("arch", ["fasterrcnn_mobilenet_v2_fpn", "retinanet_mobilenet_v2_fpn"])
def test_fast_steps_of_a_detector_have_nearly_the_losses_of_exact_ones(arch: str) -> None:
    """bf16, fused, the teacher compiled for pictures of any shape; a second batch has another."""

    def losses(*, fast: bool) -> list[dict[str, float]]:
        torch.manual_seed(0)
        keys = {"fpn_channels": 32, "norm": "batch", "width": 0.5}
        student, teacher = (detector(arch, 5, 96, **keys).to(GPU, memory_format=torch.channels_last) for _ in range(2))  # type: ignore[arg-type]
        kind, width = "bf16" if fast else "fp32", int(student.num_features)
        functions = HashFunctions(draw_weights(256, width, 0.02, 0), torch.zeros(256), 0.02, 0, "zero")
        objective = MimicDetect(
            student, DetectorTeacher(teacher, precision=kind), terms=Terms([Term("lsh", 1.0, LSH(functions).to(GPU))]),
            precision=kind,
        )  # fmt: skip
        if fast:
            objective.hasten(bf16=True, compiled=True)
        state = assemble(
            objective, optimizer="sgd", momentum=0.9, weight_decay=1e-4, fused=fast, compile_teacher=fast,
            compiler=of_any_shape, varied=True,
        )  # fmt: skip
        state.begin_epoch()
        step, first = make_step(state), batch(GPU)
        other = replace(first, images=[each[:, :70, :90] for each in first.images], targets=first.targets[::-1])
        return [{name: loss.item() for name, loss in step(each, 1e-4).items()} for each in (first, other)]

    for ours, theirs in zip(losses(fast=True), losses(fast=False), strict=True):
        assert ours["lsh"] == pytest.approx(theirs["lsh"], rel=0.1)
        assert all(np.isfinite(value) and value == pytest.approx(theirs[name], rel=0.3, abs=0.05)
                   for name, value in ours.items())  # fmt: skip
