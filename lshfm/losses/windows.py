"""Losses on the 3x3 windows of maps, computed without unfolding them.

The feature of a position is the window around it in a map (B, C, h, w), zeros outside, channels before rows before
columns: D = 9 C values, 167 MB an image and network at 800 x 1088 if they were laid out. Sums over D are sums over
channels under a 3x3 box filter, and the product of a window with a row of W (N, D) is a 3x3 convolution.

Every loss is, as on features (R, D), a mean over all entries of an image's kept positions, on all levels together;
and then the mean over the images that keep any. Source: the published detection code's treatment of RetinaNet.
"""

import logging
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from lshfm.errors import InputError
from lshfm.losses.features import L1, L2
from lshfm.losses.lsh import LSH

log = logging.getLogger("lshfm")

WINDOW = 9
CHUNK = 256  # hash functions at a time
ENTRIES = 2**24  # hashes of a chunk, at most, if one image has no more: 64 MiB in fp32
LEAST_AGREEMENT = 0.99  # share of hash bits that products in bf16 must have in common with those in fp32

# Hashes (b, n, h, w) and what their positions count for (B, 1, h, w) -> the loss, and its slopes by the student's
# hashes (B, n, h, w). The hashes are the student's before the teacher's, b = 2 B; or their differences, b = B.
Compared = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

Maps = Sequence[Tensor]  # (B, C, h, w) of each level
Kept = Sequence[Tensor]  # bool (B, h, w) of each level: the positions whose windows count


def shares_of(kept: Kept, like: Tensor) -> list[Tensor]:
    """What a position's mean over D counts for in the loss, (B, h, w) of each level; they sum to 1, or to 0."""
    in_image = torch.stack([each.sum((1, 2)) for each in kept]).sum(0)  # (B,)
    images = (in_image > 0).sum().clamp(min=1)
    of_image = 1 / (in_image.clamp(min=1) * images).to(_single_of(like))
    return [each * of_image[:, None, None] for each in kept]


class ByEntry(nn.Module):
    """A loss of single entries: the absolute or squared difference."""

    def __init__(self, loss: L1 | L2) -> None:
        super().__init__()
        self.is_square = isinstance(loss, L2)

    def forward(self, maps_s: Maps, maps_t: Maps, kept: Kept) -> Tensor:
        levels = zip(maps_s, maps_t, shares_of(kept, maps_s[0]), strict=True)
        parts = [self._level(*each) for each in levels]
        return torch.stack(parts).sum()

    def _level(self, map_s: Tensor, map_t: Tensor, share: Tensor) -> Tensor:
        difference = _single(map_s) - _single(map_t)
        errors = (difference.square() if self.is_square else difference.abs()).sum(1, keepdim=True)
        # An entry is in the windows of the positions around it: the box filter goes over the shares as well.
        return (errors * _box_sums(share[:, None])).sum() / (WINDOW * map_s.shape[1])


def _box_sums(values: Tensor) -> Tensor:
    """Sums over 3x3, zeros outside: (B, 1, h, w) to the same."""
    return F.avg_pool2d(values, 3, stride=1, padding=1, divisor_override=1)


class WindowLSH(nn.Module):
    """LSH on windows. Its gradient is computed with the loss, some hash functions at a time: no hashes are kept.

    Three convolutions with W in all: of the teacher's maps, of the student's, and back. They are in fp32 (fp64 of such
    maps), as is all else; `hasten` allows bf16 for them.
    """

    def __init__(self, loss: LSH) -> None:
        super().__init__()
        self.loss = loss
        self.products: torch.dtype | None = None  # of the convolutions; None: as the maps
        self.compare: Compared = COMPARED[loss.form]
        self._wanted: tuple[bool, bool] | None = None  # what `hasten` asked for, until it is tried

    def hasten(self, *, bf16: bool, compiled: bool) -> None:
        """From the first maps on: products in bf16 if their bits agree, and the comparison of hashes compiled."""
        self._wanted = bf16, compiled

    def forward(self, maps_s: Maps, maps_t: Maps, kept: Kept) -> Tensor:
        levels, num = zip(maps_s, maps_t, shares_of(kept, maps_s[0]), strict=True), len(self.loss.weights)
        with torch.autocast(maps_s[0].device.type, enabled=False):
            if self._wanted:
                self._try(maps_t, *self._wanted)
            parts = [self._level(map_s, map_t.detach(), share / num) for map_s, map_t, share in levels]
        return torch.stack(parts).sum()

    def _level(self, map_s: Tensor, map_t: Tensor, share: Tensor) -> Tensor:
        functions, is_of_bits = (self.loss.weights, self.loss.bias), self.loss.form == "bce"
        part: Tensor = _Hashed.apply(
            map_s, map_t, share[:, None], *functions, self.products or _single_of(map_s), is_of_bits, self.compare
        )
        return part

    @torch.no_grad()
    def _try(self, maps: Maps, bf16: bool, compiled: bool) -> None:
        """Settle on products, and on how they are compared, by the first maps."""
        self._wanted = None
        if bf16:
            share = agreement(maps, self.loss.weights, self.loss.bias, torch.bfloat16)
            self.products = torch.bfloat16 if share >= LEAST_AGREEMENT else None
            log.info("hashes of windows: products in %s; of bits in bf16 %.2f %% are those in fp32",
                     "bf16" if self.products else "fp32", 100 * share)  # fmt: skip
        if compiled:
            self.compare = compiled_if_it_works(self.compare, maps[0], self.products or _single_of(maps[0]))


class _Hashed(torch.autograd.Function):
    """The weighted sum of the losses of all hashes of a map, with its gradient by the student's map alone.

    is_of_bits: the teacher's hashes are compared as bits, so that both networks' are needed, not just differences.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, map_s: Tensor, map_t: Tensor, share: Tensor, weights: Tensor, bias: Tensor,
        products: torch.dtype, is_of_bits: bool, compare: Compared,
    ) -> Tensor:  # fmt: skip
        """The loss, a scalar; maps (B, C, h, w), share (B, 1, h, w), weights (N, 9 C), bias (N,)."""
        wants_gradient = ctx.needs_input_grad[0]  # type: ignore[attr-defined]
        gradient = torch.zeros_like(map_s, dtype=share.dtype)
        total, kernels = share.new_zeros(()), list(_kernels(weights.to(products), bias.to(products), map_s.shape[1]))
        for part in _parts(map_s):
            seen = _seen(map_s[part], map_t[part], products, is_of_bits)
            for kernel, offset in kernels:
                hashes = F.conv2d(seen, kernel, offset if is_of_bits else None, padding=1)
                loss, slopes = compare(hashes, share[part])
                total += loss
                if wants_gradient:
                    gradient[part] += F.conv_transpose2d(slopes, kernel, padding=1)
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: FunctionCtx, *outer: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return gradient * outer[0], *[None] * 7


def _seen(map_s: Tensor, map_t: Tensor, products: torch.dtype, is_of_bits: bool) -> Tensor:
    """What is hashed: both maps one behind the other, or their difference."""
    if is_of_bits:
        return torch.cat([map_s.to(products), map_t.to(products)])
    return (_single(map_s) - _single(map_t)).to(products)


def _single(values: Tensor) -> Tensor:
    """In single precision at least."""
    return values.to(_single_of(values))


def _single_of(values: Tensor) -> torch.dtype:
    return torch.float64 if values.dtype == torch.float64 else torch.float32


def _parts(maps: Tensor) -> list[slice]:
    """So many images (B, C, h, w) at a time that a chunk of their hashes has at most ENTRIES, or one."""
    size = max(ENTRIES // (CHUNK * maps[0, 0].numel() * 2), 1)
    return [slice(start, start + size) for start in range(0, len(maps), size)]


def _kernels(weights: Tensor, bias: Tensor, channels: int) -> Iterator[tuple[Tensor, Tensor]]:
    """W (N, 9 C) as kernels (n, C, 3, 3), with their biases."""
    kernels = torch.split(weights.view(-1, channels, 3, 3), CHUNK)
    yield from zip(kernels, torch.split(bias, CHUNK), strict=True)


def _bce(hashes: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    h_s, h_t = hashes.chunk(2)
    logits = _single(h_s)
    bits = (h_t > 0).to(logits)
    loss = F.binary_cross_entropy_with_logits(logits, bits, reduction="none")
    return (loss * share).sum(), ((logits.sigmoid() - bits) * share).to(h_s)


def _l1(hashes: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    return (_single(hashes).abs() * share).sum(), (hashes.sign() * share).to(hashes)


def _l2(hashes: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    return (_single(hashes).square() * share).sum(), (2 * hashes * share).to(hashes)


COMPARED: dict[str, Compared] = {"bce": _bce, "l1": _l1, "l2": _l2}


def agreement(maps: Maps, weights: Tensor, bias: Tensor, products: torch.dtype) -> float:
    """The share of hash bits of maps that other products leave as they are in fp32 without TF32.

    Of the first `CHUNK` functions and the first image. products: bf16, or fp32 as the device has it, perhaps as TF32.
    """
    functions = weights[:CHUNK], bias[:CHUNK]
    equal = total = 0
    for each in maps:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            expected = _bits(each[:1], *functions, torch.float32)
        bits = _bits(each[:1], *functions, products)
        equal, total = equal + int((bits == expected).sum()), total + bits.numel()
    return equal / total


def _bits(maps: Tensor, weights: Tensor, bias: Tensor, products: torch.dtype) -> Tensor:
    kernel, offset = next(_kernels(weights.to(products), bias.to(products), maps.shape[1]))
    return F.conv2d(maps.to(products), kernel, offset, padding=1) > 0


def compiled_if_it_works(compare: Compared, like: Tensor, products: torch.dtype) -> Compared:
    """The comparison as one kernel for hashes of any shape; as it is where it cannot be compiled, as the log says."""
    hashes, share = like.new_ones(4, 8, 6, 5, dtype=products), like.new_ones(2, 1, 6, 5, dtype=_single_of(like))
    try:
        compiled: Compared = torch.compile(compare, dynamic=True)
        compiled(hashes, share if compare is _bce else share.repeat(2, 1, 1, 1))
    except Exception as error:  # noqa: BLE001 - compilers raise nearly anything
        log.info("hashes are compared operation by operation: %s", (str(error).strip() or "?").splitlines()[0])
        return compare
    return compiled


def on_windows(loss: nn.Module) -> nn.Module:
    """The loss of features (R, D) as one of windows: (maps, maps, kept) -> scalar.

    Raises InputError for one that is not known to have that form.
    """
    if isinstance(loss, L1 | L2):
        return ByEntry(loss)
    check_windows(type(loss))
    return WindowLSH(loss)  # type: ignore[arg-type]


def check_windows(kind: type) -> None:
    """InputError for a class of losses that `on_windows` does not know."""
    if not issubclass(kind, L1 | L2 | LSH):
        raise InputError(f"{kind.__name__} has no form for RetinaNet's windows: take l1, l2, lsh or lshl2")
