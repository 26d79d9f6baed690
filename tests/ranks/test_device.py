"""Every form of `gpus`, with as many devices as the test likes."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import conv1d, conv2d, conv3d

from lshfm.errors import InputError
from lshfm.ranks import device
from lshfm.ranks.group import Place

NO_SUCH = r"must be a list of device numbers as \[0,1\], a number n > 0, or \[\] for the CPU"
ALONE, PAIR = Place(0, 1, 0, 1), Place(2, 4, 0, 2)  # PAIR: two ranks on each of two machines


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: request.param)


def chosen(*settings: Any) -> list[str]:
    return [str(where) for where in device.choose(*settings)]


@pytest.mark.parametrize(
    ("devices", "gpus", "expected"),
    [
        (0, None, ["cpu"]),
        (2, None, ["cuda:0"]),
        (0, [], ["cpu"]),
        (2, [], ["cpu"]),
        (2, [0], ["cuda:0"]),
        (2, [1], ["cuda:1"]),
        (2, 1, ["cuda:0"]),
        (2, [0, 1], ["cuda:0", "cuda:1"]),
        (2, [1, 0], ["cuda:1", "cuda:0"]),
        (2, 2, ["cuda:0", "cuda:1"]),
        (3, [2, 0], ["cuda:2", "cuda:0"]),
    ],
    indirect=["devices"],
)
@pytest.mark.usefixtures("devices")
def test_choices(gpus: Any, expected: list[str]) -> None:
    assert chosen(gpus) == expected


@pytest.mark.parametrize(
    ("devices", "gpus", "ranks", "expected"),
    [
        (0, None, 3, ["cpu"] * 3),
        (2, [], 3, ["cpu"] * 3),
        (2, [], 1, ["cpu"]),
        (2, [1, 0], 2, ["cuda:1", "cuda:0"]),
        (2, None, 1, ["cuda:0"]),
    ],
    indirect=["devices"],
)
@pytest.mark.usefixtures("devices")
def test_ranks(gpus: Any, ranks: int, expected: list[str]) -> None:
    assert chosen(gpus, ranks) == expected


@pytest.mark.parametrize(
    ("devices", "gpus", "ranks", "given_place", "expected"),
    [
        (0, None, None, PAIR, ["cpu"] * 2),
        (2, [], 4, PAIR, ["cpu"] * 2),
        (2, None, None, PAIR, ["cuda:0", "cuda:1"]),
        (4, None, None, PAIR, ["cuda:0", "cuda:1"]),
        (4, [3, 1], None, PAIR, ["cuda:3", "cuda:1"]),
        (4, 4, 4, PAIR, ["cuda:0", "cuda:1"]),
        (4, None, 1, ALONE, ["cuda:0"]),
        (0, None, None, ALONE, ["cpu"]),
    ],
    indirect=["devices"],
)
@pytest.mark.usefixtures("devices")
def test_ranks_that_were_started_from_outside(
    gpus: Any, ranks: int | None, given_place: Place, expected: list[str]
) -> None:
    """They are as many as they are: one device for each that stands on this machine."""
    assert chosen(gpus, ranks, given_place) == expected


@pytest.mark.parametrize(
    ("devices", "gpus", "message"),
    [
        *((count, 0, r"gpus=\[0\] is the first GPU, gpus=\[\] is the CPU") for count in (0, 2)),
        *(
            (2, gpus, NO_SUCH)
            for gpus in (-1, True, False, "a", "0", 1.0, {"a": 1}, [True], [-1], ["0"], [0, 0], [[0]], [None])
        ),
        (0, [0], r"gpus=\[0\]: this machine has no CUDA device; gpus=\[\] runs on the CPU"),
        (0, 1, "this machine has no CUDA device"),
        (2, [5], r"gpus=\[5\]: CUDA devices here: \[0, 1\]"),
        (2, [2], r"CUDA devices here: \[0, 1\]"),
        (2, [0, 2], r"gpus=\[0, 2\]: CUDA devices here: \[0, 1\]"),
        (1, 2, r"gpus=2: CUDA devices here: \[0\]"),
    ],
    indirect=["devices"],
)
@pytest.mark.usefixtures("devices")
def test_refusals(gpus: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        device.choose(gpus)


@pytest.mark.parametrize(
    ("devices", "gpus", "ranks", "given_place", "message"),
    [
        (2, None, 2, None, r"^ranks=2: on GPUs there is one rank each: gpus=2, or gpus=\[\] for the CPU$"),
        (2, [0, 1], 3, None, "^ranks=3: on GPUs there is one rank each"),
        (2, [0], 1, PAIR, "^ranks=1: 4 were started from outside; leave ranks= away$"),
        (0, [], 2, PAIR, "^ranks=2: 4 were started from outside"),
        (2, [0], None, PAIR, r"^gpus=\[0\]: 2 ranks were started on this machine, one a GPU$"),
        (1, None, None, PAIR, r"^gpus=\[0, 1\]: CUDA devices here: \[0\]; gpus=\[\] runs on the CPU$"),
    ],
    indirect=["devices"],
)
@pytest.mark.usefixtures("devices")
def test_numbers_that_do_not_fit(gpus: Any, ranks: int | None, given_place: Place | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        device.choose(gpus, ranks, given_place)


@given(st.recursive(st.none() | st.booleans() | st.integers(-3, 9) | st.text(max_size=2), st.lists, max_leaves=4))
def test_anything_else_is_the_users_error(gpus: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "device_count", lambda: 2)
        try:
            assert set(chosen(gpus)) <= {"cpu", "cuda:0", "cuda:1"}
        except InputError as error:
            assert str(error).startswith(f"gpus={gpus}")  # noqa: PT017 - devices are checked above


@pytest.mark.parametrize(
    ("variables", "parts", "threads"), [({}, 2, 4), ({}, 1, 8), ({}, 20, 1), ({"OMP_NUM_THREADS": "3"}, 2, 8)]
)
def test_ranks_share_the_cores(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], parts: int, threads: int
) -> None:
    now = [8]
    monkeypatch.setattr(os, "environ", variables)
    monkeypatch.setattr(torch, "get_num_threads", lambda: now[-1])
    monkeypatch.setattr(torch, "set_num_threads", now.append)
    device.share_cores(parts)
    assert now[-1] == threads


@pytest.fixture
def switches() -> Iterator[None]:
    """Puts the process back as it was."""
    benchmark = torch.backends.cudnn.benchmark
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = benchmark


@pytest.mark.usefixtures("switches")
@pytest.mark.parametrize("deterministic", [True, False])
def test_deterministic_allows_only_repeatable_algorithms(monkeypatch: pytest.MonkeyPatch, deterministic: bool) -> None:
    monkeypatch.setattr(os, "environ", {})
    device.prepare(torch.device("cpu"), deterministic=deterministic)
    assert torch.are_deterministic_algorithms_enabled() is deterministic
    assert torch.backends.cudnn.benchmark is not deterministic
    device.prepare(torch.device("cpu"), deterministic=deterministic, varied=True)
    assert not torch.backends.cudnn.benchmark
    assert ("CUBLAS_WORKSPACE_CONFIG" in os.environ) is deterministic


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_precision(precision: str, dtype: torch.dtype) -> None:
    a = torch.ones(2, 2)
    with device.autocast(torch.device("cpu"), precision):
        assert (a @ a).dtype == dtype
    assert (a @ a).dtype == torch.float32


@pytest.mark.parametrize(("threads", "named"), [(1, "CPU, 1 thread"), (2, "CPU, 2 threads")])
def test_the_record_names_hardware_and_versions(monkeypatch: pytest.MonkeyPatch, threads: int, named: str) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    described = device.describe_hardware(torch.device("cpu"), "bf16")
    assert described["device"] == named
    assert described["arithmetic"] == "bf16"
    assert described["torch"] == torch.__version__
    assert {type(value) for value in described.values()} == {str}  # no class of torch's in a checkpoint


@pytest.mark.parametrize("conv", [conv1d, conv2d, conv3d])
def test_convolutions_of_narrow_maps_give_what_autocast_gives(conv: Any) -> None:
    """Their kind of numbers too; what autocast leaves alone, or is told to, stays as it is."""
    ndim = 1 + [conv1d, conv2d, conv3d].index(conv)
    maps, kernel = torch.randn(2, 4, *[1] * ndim), torch.randn(4, 4, *[3] * ndim)
    with device.autocast(torch.device("cpu"), "bf16"):
        out = conv(maps, kernel, stride=2, padding=1)
        double = conv(maps.double(), kernel.double(), stride=2, padding=1)
        with torch.autocast("cpu", enabled=False):
            half = conv(maps.bfloat16(), kernel.bfloat16(), None, [2] * ndim, 1)
        with pytest.raises(TypeError):
            conv(maps, kernel, stride="2")
    expected = conv(maps.double(), kernel.double(), stride=2, padding=1)
    assert (out.dtype, double.dtype, half.dtype) == (torch.bfloat16, torch.float64, torch.bfloat16)
    torch.testing.assert_close(out.double(), expected, rtol=0.01, atol=0.01)
    assert torch.equal(double, expected)


def soil_memory() -> None:
    """NaN in freed memory of a gradient's size, which the next allocations take."""
    _ = [torch.full((size,), float("nan")) for size in (100, 2304, 10_000) for _ in range(4)]


@pytest.mark.parametrize(("stride", "width"), [(2, 1), (4, 3), (2, 2)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("form", ["module", "function"])
def test_bf16_leaves_no_gradient_of_a_convolution_unset(stride: int, width: int, dtype: torch.dtype, form: str) -> None:
    """Columns of a kernel that meet nothing but padding: what was in memory stood in their gradients."""
    torch.manual_seed(0)
    convolution = torch.nn.Conv2d(16, 16, 3, stride, padding=1, bias=False)
    pixels, kernel = torch.randn(3, 16, 5, width), convolution.weight
    (exact,) = torch.autograd.grad(convolution(pixels).square().sum(), kernel)
    for _ in range(5):
        with device.autocast(torch.device("cpu"), "bf16"):
            if form == "module":
                out = convolution(pixels.to(dtype))
            else:
                out = conv2d(input=pixels, weight=kernel.to(dtype), stride=(stride, stride), padding=1)
        soil_memory()
        (ours,) = torch.autograd.grad(out.float().square().sum(), kernel)
        torch.testing.assert_close(ours, exact, rtol=0.05, atol=0.05 * float(exact.abs().max()))
