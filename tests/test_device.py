"""Every form of `gpus`, with as many devices as the test likes."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lshfm import device
from lshfm.errors import InputError

SEVERAL = "training on several GPUs is not there yet; name one, as gpus=[0]"
NO_SUCH = r"must be a list of device numbers as \[0,1\], a number n > 0, or \[\] for the CPU"


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: request.param)


@pytest.mark.parametrize(
    ("devices", "gpus", "chosen"),
    [
        (0, None, "cpu"),
        (2, None, "cuda:0"),
        (0, [], "cpu"),
        (2, [], "cpu"),
        (2, [0], "cuda:0"),
        (2, [1], "cuda:1"),
        (2, 1, "cuda:0"),
    ],
    indirect=["devices"],
)
@pytest.mark.usefixtures("devices")
def test_choices(gpus: Any, chosen: str) -> None:
    assert device.choose(gpus) == torch.device(chosen)


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
        (2, [0, 1], r"gpus=\[0, 1\]: training on several GPUs .* as gpus=\[0\]"),
        (2, [1, 0], r"as gpus=\[1\]"),
        (2, 2, "training on several GPUs"),
        (1, 2, "training on several GPUs"),
    ],
    indirect=["devices"],
)
@pytest.mark.usefixtures("devices")
def test_refusals(gpus: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        device.choose(gpus)


@given(st.recursive(st.none() | st.booleans() | st.integers(-3, 9) | st.text(max_size=2), st.lists, max_leaves=4))
def test_anything_else_is_the_users_error(gpus: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "device_count", lambda: 2)
        try:
            assert str(device.choose(gpus)) in {"cpu", "cuda:0", "cuda:1"}
        except InputError as error:
            assert str(error).startswith(f"gpus={gpus}")  # noqa: PT017 - devices are checked above


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
    assert ("CUBLAS_WORKSPACE_CONFIG" in os.environ) is deterministic


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_precision(precision: str, dtype: torch.dtype) -> None:
    a = torch.ones(2, 2)
    with device.autocast(torch.device("cpu"), precision):
        assert (a @ a).dtype == dtype
    assert (a @ a).dtype == torch.float32


def test_the_record_names_hardware_and_versions() -> None:
    described = device.describe(torch.device("cpu"), "bf16")
    assert described["device"] == f"CPU, {torch.get_num_threads()} threads"
    assert described["arithmetic"] == "bf16"
    assert described["torch"] == torch.__version__
    assert {type(value) for value in described.values()} == {str}  # no class of torch's in a checkpoint
