"""Mimicking the direction of features by locality-sensitive hashing (arXiv 2011.01424, section 3).

A hash function is a random direction w and an offset b; its bit for a feature f is [w f + b > 0]. Features (B, D),
weights W (N, D), bias b (N,). W and b are drawn and set once and never trained.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lshfm.checks import is_number, positive, require_known
from lshfm.errors import InputError, parameter

RULES = ("median", "mean", "zero")
FORMS = ("bce", "l1", "l2")

Report = Callable[[int, int], None]  # done, total

# A matrix product's bits depend on the kernel, and the kernel on the shape: small products take other kernels. Chunks
# that start at multiples of ROWS and have at least SMALLEST entries came out bit-equal to the whole product.
ROWS = 64
SMALLEST = 2**20  # entries


def draw_weights(hash_num: int, width: int, std: float, seed: int) -> Tensor:
    """W (hash_num, width) with entries N(0, std^2), fp32 on the CPU, from a generator of its own.

    Raises InputError unless hash_num and width are whole numbers above 0 and std is a finite number above 0.
    """
    positive(parameter("hash_num"), hash_num)
    positive("the feature's width", width)
    _check_std(std)
    return torch.randn(hash_num, width, generator=torch.Generator().manual_seed(seed)).mul_(std)


def teacher_std(classifier_weight: Tensor) -> float:
    """The published deviation of W: the unbiased standard deviation of all entries of the teacher's classifier (C, D).

    Raises InputError where they do not vary, as in a classifier that starts from zeros.
    """
    entries = classifier_weight.detach().double().flatten()
    std = entries.std().item() if len(entries) > 1 else 0.0
    if not std > 0:
        raise InputError(
            f"the teacher's classifier weights do not vary, or are not finite: give {parameter('std')}=NUMBER"
        )
    return std


@dataclass(frozen=True, eq=False)  # eq would compare tensors entry by entry
class HashFunctions:
    """W and b with what they were made from; they stay the same for a whole run, both its stages."""

    weights: Tensor  # (N, D) fp32
    bias: Tensor  # (N,) fp32
    std: float
    seed: int
    rule: str  # one of RULES

    def __post_init__(self) -> None:
        assert self.weights.dtype == self.bias.dtype == torch.float32
        assert self.bias.shape == self.weights.shape[:1]
        require_known("rule", self.rule, RULES)

    @property
    def num(self) -> int:
        return self.weights.shape[0]

    @property
    def width(self) -> int:
        return self.weights.shape[1]

    def sha256(self) -> str:
        """SHA-256 of W's bytes in hex, to verify that W drawn again from the seed is the same."""
        return self._sha256

    @cached_property
    def _sha256(self) -> str:
        return hashlib.sha256(self.weights.cpu().contiguous().numpy().data).hexdigest()

    def state(self) -> dict[str, Any]:
        """Plain values and b, as checkpoints store them; not W, which is large and can be drawn again from its seed."""
        made_from = {"num": self.num, "width": self.width, "std": self.std, "seed": self.seed, "rule": self.rule}
        return made_from | {"bias": self.bias, "sha256": self.sha256()}


class LSH(nn.Module):
    """The student's hash bits follow the teacher's: h_s = W f_s + b and h_t = W f_t + b, mean over B*N.

    form "bce" (the paper's): binary cross entropy with h_s as logits and the bits [h_t > 0] as targets; "l1" and
    "l2": |h_s - h_t| and (h_s - h_t)^2, where b cancels. Always fp32. No gradient goes to f_t, W or b, and neither W
    nor b is part of the state dict. Raises InputError for another form.
    """

    weights: Tensor
    bias: Tensor

    def __init__(self, functions: HashFunctions, form: str = "bce") -> None:
        super().__init__()
        require_known(parameter("form"), form, FORMS)
        self.form = form
        self.register_buffer("weights", functions.weights, persistent=False)
        self.register_buffer("bias", functions.bias, persistent=False)

    def forward(self, feature_s: Tensor, feature_t: Tensor) -> Tensor:
        assert feature_s.shape == feature_t.shape, "broadcasting would hide a mistake"
        with _in_fp32(feature_s.device):  # bf16 would flip 2 bits in 1000
            feature_s, feature_t = feature_s.float(), feature_t.detach().float()
            if self.form == "bce":
                return self._bce(feature_s, feature_t)
            difference = F.linear(feature_s - feature_t, self.weights)  # h_s - h_t, (B, N)
            return (difference.abs() if self.form == "l1" else difference.square()).mean()

    def _bce(self, feature_s: Tensor, feature_t: Tensor) -> Tensor:
        hashes = F.linear(torch.cat([feature_s, feature_t]), self.weights, self.bias)  # (2B, N)
        h_s, h_t = hashes.chunk(2)
        return F.binary_cross_entropy_with_logits(h_s, (h_t > 0).float())


def _in_fp32(device: torch.device) -> AbstractContextManager[Any]:
    """No autocast within the block. Where there is none anyway, torch's context would take 30 us of every step."""
    kind = device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


@torch.no_grad()
def hash_bias(
    features: Tensor,
    weights: Tensor,
    rule: str,
    *,
    report: Report | None = None,
    max_bytes: int = 256 * 2**20,
) -> Tensor:
    """b (N,) of the hash functions `weights` (N, D), on their device, from finite fp32 features (n, D).

    rule "median": minus the lower median of W f over the n rows, so that each bit halves them; "mean": minus the
    mean; "zero": zeros. The medians are taken some rows of W at a time on the features' device, in about `max_bytes`
    and no less than 8 MiB or 128 rows; on a CPU they are bit-equal to those of the whole matrix
    `weights @ features.T`. `report(done, total)` counts hash functions. Raises InputError for another rule.
    """
    require_known("rule", rule, RULES)
    assert features.dtype == weights.dtype == torch.float32
    assert len(features), "no rows to take b from"
    assert not not_finite(features), "the caller names the images"
    with _in_fp32(features.device):
        if rule == "median":
            return _medians(features, len(weights), lambda rows: weights[rows], report, max_bytes).neg_()
        if rule == "mean":  # of the features first: the same by linearity, at the price of one product
            return -(weights @ features.mean(dim=0, dtype=torch.float64).to(weights))
        return weights.new_zeros(len(weights))


@torch.no_grad()
def drawn_bias(
    features: Tensor, num: int, std: float, seed: int, *, report: Report | None = None, max_bytes: int = 64 * 2**20
) -> Tensor:
    """b (num,) by the rule "median" of the functions that `draw_weights` draws, without W in memory.

    To the bit what `hash_bias` gives for W on a CPU. Raises InputError as draw_weights does.
    """
    positive(parameter("hash_num"), num)
    _check_std(std)
    assert not not_finite(features), "the caller names the images"
    generator, width = torch.Generator().manual_seed(seed), features.shape[1]

    def draw(rows: slice) -> Tensor:  # in the order of W, whole blocks of what a generator fills at a time
        return torch.randn(rows.stop - rows.start, width, generator=generator).mul_(std)

    with _in_fp32(features.device):
        return _medians(features, num, draw, report, max_bytes).neg_()


def not_finite(features: Tensor) -> list[int]:
    """Numbers of the rows of features (n, D) that hold an inf or a nan."""
    low, high = features.aminmax(dim=1)  # a nan in the row is both; no temporary copy of the features
    return torch.nonzero(~(low.isfinite() & high.isfinite())).flatten().tolist()


def _medians(
    features: Tensor, num: int, weights: Callable[[slice], Tensor], report: Report | None, max_bytes: int
) -> Tensor:
    """Of `num` functions, whose weights are asked for in order; on the CPU."""
    medians = torch.empty(num)
    for rows in _chunks(num, len(features), max_bytes):
        medians[rows] = _lower_median(weights(rows).to(features.device), features).to(medians)
        if report:
            report(rows.stop, num)
    return medians


def _lower_median(weights: Tensor, features: Tensor) -> Tensor:
    """(N, D), (n, D) -> (N,); a function of its own so that its matrix is freed before the next one is made."""
    products = weights @ features.T
    with _any_index():
        return products.median(dim=1).values


def _chunks(num: int, length: int, max_bytes: int) -> Iterator[slice]:
    """Cuts of `num` fp32 rows of `length` entries, each below max_bytes where ROWS and SMALLEST allow it."""
    # Half of max_bytes, as the last cut takes the rest along: up to one row less than two cuts.
    size = max(max_bytes // 8, SMALLEST) // length
    size = max(size // ROWS, 1) * ROWS
    starts = range(0, max(num - size, 0) + 1, size)
    return (slice(start, num if start == starts[-1] else start + size) for start in starts)


@contextmanager
def _any_index() -> Iterator[None]:
    """Allow torch.median on CUDA in a deterministic run: of equal values it may point to any, the value is the same."""
    mode = torch.get_deterministic_debug_mode()  # use_deterministic_algorithms would import the compiler: 2 s, 150 MB
    torch.set_deterministic_debug_mode("default")
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(mode)


def _check_std(value: object) -> None:
    fp32 = torch.finfo(torch.float32)  # what is smaller or larger would draw zeros or infinities
    if not is_number(value) or not fp32.tiny <= value <= fp32.max:
        name = parameter("std")
        raise InputError(
            f"{name}={value!r} must be a finite number above 0 in single precision; null takes the teacher's"
        )
