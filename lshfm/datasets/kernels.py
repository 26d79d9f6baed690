"""Flip, colour jitter and normalisation as two GPU kernels: one for the mean greys, one for everything else.

The arithmetic is `augment`'s, operation by operation. Sums are of whole numbers, so their order is of no matter;
products and sums are rounded apart, as Pillow does, and quotients exactly.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024  # pixels that a program works on


@triton.jit
def _luma(red, green, blue):  # type: ignore[no-untyped-def]
    return tl.floor((red * 19595.0 + green * 38470.0 + blue * 7471.0 + 32768.0) * 0.0000152587890625)


@triton.jit
def _blend(value, degenerate, factor):  # type: ignore[no-untyped-def]
    return tl.floor(tl.minimum(tl.maximum((value - degenerate) * factor + degenerate, 0.0), 255.0))


@triton.jit
def _load(pixels, image, place, length, inside):  # type: ignore[no-untyped-def]
    """Red, green and blue as float32 of places in an image of so many pixels."""
    start = pixels + (image * length + place) * 3
    red = tl.load(start, mask=inside, other=0).to(tl.float32)
    green = tl.load(start + 1, mask=inside, other=0).to(tl.float32)
    blue = tl.load(start + 2, mask=inside, other=0).to(tl.float32)
    return red, green, blue


@triton.jit  # type: ignore[untyped-decorator]
def _sum_greys(pixels, rounds, sums, length, K: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Adds up the grey of each image as it is when its contrast changes; rounds: (B, K, 3)."""
    image = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = place < length
    red, green, blue = _load(pixels, image, place, length, inside)
    is_before = 1.0
    for k in tl.static_range(K):
        at = rounds + (image * K + k) * 3
        factor, is_contrast, is_saturation = tl.load(at), tl.load(at + 1), tl.load(at + 2)
        is_before = is_before * (1.0 - is_contrast)
        factor = factor * is_before + (1.0 - is_before)  # 1 from the change of contrast on: nothing changes any more
        degenerate = _luma(red, green, blue) * is_saturation
        red, green, blue = (
            _blend(red, degenerate, factor), _blend(green, degenerate, factor), _blend(blue, degenerate, factor),
        )  # fmt: skip
    grey = tl.where(inside, _luma(red, green, blue), 0.0).to(tl.int32)
    tl.atomic_add(sums + image, tl.sum(grey, axis=0).to(tl.int64))


@triton.jit  # type: ignore[untyped-decorator]
def _make(  # type: ignore[no-untyped-def]
    pixels, flips, rounds, sums, constants, result, width, length, image_stride, channel_stride, pixel_stride,
    K: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = place < length
    column = place % width
    mirrored = place - column + (width - 1 - column)
    read = tl.where(tl.load(flips + image) != 0, mirrored, place)
    red, green, blue = _load(pixels, image, read, length, inside)
    mean = tl.floor(tl.load(sums + image).to(tl.float64) / length.to(tl.float64) + 0.5).to(tl.float32)
    for k in tl.static_range(K):
        at = rounds + (image * K + k) * 3
        factor, is_contrast, is_saturation = tl.load(at), tl.load(at + 1), tl.load(at + 2)
        degenerate = _luma(red, green, blue) * is_saturation + mean * is_contrast
        red, green, blue = (
            _blend(red, degenerate, factor), _blend(green, degenerate, factor), _blend(blue, degenerate, factor),
        )  # fmt: skip
    to = result + image * image_stride + place * pixel_stride
    full = tl.load(constants)
    red = tl.math.div_rn(tl.math.div_rn(red, full) - tl.load(constants + 1), tl.load(constants + 4))
    green = tl.math.div_rn(tl.math.div_rn(green, full) - tl.load(constants + 2), tl.load(constants + 5))
    blue = tl.math.div_rn(tl.math.div_rn(blue, full) - tl.load(constants + 3), tl.load(constants + 6))
    tl.store(to, red, mask=inside)
    tl.store(to + channel_stride, green, mask=inside)
    tl.store(to + 2 * channel_stride, blue, mask=inside)


def make(pixels: Tensor, flips: Tensor, rounds: Tensor, constants: Tensor, *, channels_last: bool) -> Tensor:
    """Uint8 (B, S, S, 3) to float32 (B, 3, S, S): flipped, jittered, normalised.

    flips: uint8 (B,). rounds: float32 (B, K, 3), of each round its factor, whether it changes contrast, and whether
    saturation. constants: float32 (7,): 255, mean and std of red, green and blue. All on one device.
    """
    count, height, width, _ = pixels.shape
    length, turns = height * width, rounds.shape[1]
    order = torch.channels_last if channels_last else torch.contiguous_format
    result = torch.empty((count, 3, height, width), device=pixels.device, memory_format=order)
    sums = torch.zeros(count, dtype=torch.int64, device=pixels.device)
    grid = (count, triton.cdiv(length, BLOCK))
    fixed: dict[str, Any] = {"K": turns, "BLOCK": BLOCK, "enable_fp_fusion": False}
    pixels, rounds = pixels.contiguous(), rounds.contiguous()
    _sum_greys[grid](pixels, rounds, sums, length, **fixed)
    strides = result.stride(0), result.stride(1), result.stride(3)
    _make[grid](pixels, flips, rounds, sums, constants, result, width, length, *strides, **fixed)
    return result
