"""The kernels of the augmentation: equal to the plain operations in triton's interpreter, and compiled for a GPU."""

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from lshfm.datasets import fused
from lshfm.datasets.augment import Augment
from lshfm.datasets.fused import FusedView
from lshfm.datasets.loader import View

pytest.importorskip("triton")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
INDEX = torch.arange(5) + 100
INTERPRETED = """
import torch
from lshfm.datasets import fused
from lshfm.datasets.augment import Augment
from lshfm.datasets.loader import View
fused.has_kernels = lambda device: True
pixels = torch.randint(0, 256, (5, 37, 37, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
for augment, channels_last in ((Augment(), False), (Augment(1, 1, 1, 1), True), (Augment(0, 0.5, 0, 0.5), True)):
    settings = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), augment, channels_last
    view = fused.FusedView(*settings)
    for epoch in range(2):  # the first pictures are those of the plain operations
        made = view(pixels, torch.arange(5) + 100, seed=1, epoch=epoch)
        plain = View(*settings)(pixels, torch.arange(5) + 100, seed=1, epoch=epoch)
        assert torch.equal(made, plain) and made.stride() == plain.stride(), (augment, epoch)
    assert view._verdict == [True]
"""
COMPILED = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from lshfm.datasets import kernels
fixed = {"K": "constexpr", "BLOCK": "constexpr"}
sums = {"pixels": "*u8", "rounds": "*fp32", "sums": "*i64", "length": "i32"}
make = {"pixels": "*u8", "flips": "*u8", "rounds": "*fp32", "sums": "*i64", "constants": "*fp32", "result": "*fp32"}
make |= {"width": "i32", "length": "i32", "image_stride": "i32", "channel_stride": "i32", "pixel_stride": "i32"}
for kernel, signature in ((kernels._sum_greys, sums), (kernels._make, make)):
    source = ASTSource(fn=kernel, signature=signature | fixed, constexprs={"K": 3, "BLOCK": kernels.BLOCK})
    made = triton.compile(source, target=GPUTarget("cuda", 80, 32), options={"enable_fp_fusion": False})
    assert "cubin" in made.asm and "fma.rn.f32" not in made.asm["ptx"], kernel
"""


def python(code: str, **environment: str) -> None:
    """In a process of its own: triton asks once how it is to run."""
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_they_equal_the_plain_operations_to_the_bit() -> None:
    python(INTERPRETED, TRITON_INTERPRET="1")


@pytest.mark.slow
def test_they_compile_for_a_gpu_and_round_products_apart(tmp_path: Any) -> None:
    python(COMPILED, TRITON_CACHE_DIR=str(tmp_path))


def broken(*_arguments: Any, **_keywords: Any) -> torch.Tensor:
    raise RuntimeError("Failed to find C compiler.\nMore of it.")


def wrong(pixels: torch.Tensor, *_arguments: Any, channels_last: bool) -> torch.Tensor:
    return torch.zeros(len(pixels), 3, *pixels.shape[1:3])


@pytest.mark.parametrize(
    ("kernel", "said"), [(broken, "Failed to find C compiler."), (wrong, "its kernels differ by up to ")]
)
def test_what_cannot_be_compiled_or_differs_is_not_used(
    kernel: Callable[..., torch.Tensor], said: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from lshfm.datasets import kernels

    monkeypatch.setattr(fused, "has_kernels", lambda device: True)
    monkeypatch.setattr(kernels, "make", kernel)
    pixels = torch.randint(0, 256, (5, 8, 8, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    view = FusedView(MEAN, STD, Augment())
    with caplog.at_level("INFO", "lshfm"):
        for epoch in range(2):
            plain = View(MEAN, STD, Augment())(pixels, INDEX, seed=1, epoch=epoch)
            assert torch.equal(view(pixels, INDEX, seed=1, epoch=epoch), plain)
    assert [record.message.partition(": ")[0] for record in caplog.records] == [
        "the augmentation goes operation by operation"
    ]
    assert said in caplog.text


def test_a_cpu_has_none() -> None:
    pixels = torch.zeros(5, 8, 8, 3, dtype=torch.uint8)
    view = FusedView(MEAN, STD, Augment())
    assert torch.equal(view(pixels, INDEX, seed=0, epoch=0), View(MEAN, STD, Augment())(pixels, INDEX, seed=0, epoch=0))
    assert view._verdict == []
