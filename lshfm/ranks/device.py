"""Where a run computes and how: the device, its precision, its name for the record."""

import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from lshfm.checks import device_numbers
from lshfm.errors import InputError
from lshfm.ranks.allocator import keep_freed_memory
from lshfm.ranks.group import Place

_CAST = torch.float32, torch.float16, torch.bfloat16  # what autocast casts


def choose(gpus: Any, ranks: int | None = None, given: Place | None = None) -> list[torch.device]:
    """The device of each rank on this machine.

    gpus: [i, ...] CUDA devices, [] the CPU, n > 0 the first n, None the default. ranks: how many on a CPU; on GPUs
    there is one on each. given: this process's place among ranks that torchrun or srun started.
    Raises InputError for `gpus` of another kind, for missing devices, and where `gpus`, `ranks` and `given` disagree.
    """
    if given and ranks not in (None, given.num):
        raise InputError(f"ranks={ranks}: {given.num} were started from outside; leave ranks= away")
    available = torch.cuda.device_count()
    default = list(range(given.local_num if given else 1)) if available else []
    listed = default if gpus is None else device_numbers(gpus)
    if not listed:
        return [torch.device("cpu")] * (given.local_num if given else ranks or 1)
    if given and len(listed) < given.local_num:
        raise InputError(f"gpus={gpus}: {given.local_num} ranks were started on this machine, one a GPU")
    if not given and ranks not in (None, len(listed)):
        raise InputError(f"ranks={ranks}: on GPUs there is one rank each: gpus={ranks}, or gpus=[] for the CPU")
    if max(listed) >= available:
        existing = f"CUDA devices here: {list(range(available))}" if available else "this machine has no CUDA device"
        raise InputError(f"gpus={listed if gpus is None else gpus}: {existing}; gpus=[] runs on the CPU")
    return [torch.device("cuda", number) for number in listed[: given.local_num if given else None]]


def share_cores(parts: int) -> None:
    """Take one of `parts` equal shares of the CPU's threads, one a rank, unless OMP_NUM_THREADS is set."""
    if parts > 1 and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // parts))


def prepare(device: torch.device, *, deterministic: bool, varied: bool = False) -> None:
    """Set the process up for `device`; deterministic allows only algorithms with repeatable bits.

    varied: images differ in shape, and to try all algorithms for each shape takes longer than the best one saves.
    """
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if deterministic != torch.are_deterministic_algorithms_enabled():  # the call imports torch's compiler, in a second
        torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not (deterministic or varied)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        keep_freed_memory()


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Mixed precision for the network's own arithmetic; losses stay outside, in fp32. precision: as in `settled`."""
    is_bf16 = settled(precision, device) == "bf16"
    if not is_bf16 and not torch.is_autocast_enabled(device.type):  # torch's context would change nothing, in 30 us
        return nullcontext()
    if is_bf16 and device.type == "cpu":
        return _bf16_on_cpu()
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=is_bf16)


@contextmanager
def _bf16_on_cpu() -> Iterator[None]:
    with torch.autocast("cpu", dtype=torch.bfloat16), _NarrowMapsInFp32():
        yield


class _NarrowMapsInFp32(TorchFunctionMode):
    """Convolutions that autocast would take in bf16, of maps narrower than their stride, in fp32; results in bf16.

    In bf16 oneDNN leaves the gradients of kernels' columns that meet nothing but padding as the memory was (seen with
    torch 2.13 to 2.15): at times finite, at times not.
    """

    _CONVOLUTIONS = torch.conv1d, torch.conv2d, torch.conv3d
    _OPERANDS = "input", "weight", "bias", "stride", "padding", "dilation", "groups"

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in self._CONVOLUTIONS and torch.is_autocast_enabled("cpu"):
            operands = dict(zip(self._OPERANDS, args, strict=False)) | (kwargs or {})
            if _is_narrow(operands["input"], operands.get("stride", 1)):
                single = {name: value.float() for name, value in operands.items() if isinstance(value, torch.Tensor)}
                with torch.autocast("cpu", enabled=False):
                    return func(**(operands | single)).to(torch.bfloat16)
        return func(*args, **(kwargs or {}))


def _is_narrow(maps: torch.Tensor, stride: Any) -> bool:
    """Whether maps that autocast takes in bf16 are narrower than the stride; what is no stride torch refuses itself."""
    across = stride[-1] if isinstance(stride, tuple | list) and stride else stride
    return maps.ndim > 1 and maps.dtype in _CAST and isinstance(across, int) and maps.shape[-1] < across


def settled(precision: str, device: torch.device) -> str:
    """fp32 or bf16: what `auto` comes to on a device, others as they are."""
    if precision != "auto":
        return precision
    return "bf16" if is_better_in_bf16(device) else "fp32"


@lru_cache
def is_better_in_bf16(device: torch.device) -> bool:
    """Whether bf16 is the faster one on the device for every network: on a CPU with tiles for its products (AMX).

    With AVX-512's alone ResNets gained 1.6 times, and MobileNetV2 took 1.6 times as long.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_amx_tile_supported())


def missing_compiler(device: torch.device) -> str:
    """What torch.compile lacks on this machine to write kernels for the device, in words; "" where all is there."""
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        return "this torch comes without triton"
    named, usual = ("CC", ("gcc", "clang", "cc")) if device.type == "cuda" else ("CXX", ("g++", "clang++"))
    names = [os.environ[named]] if os.environ.get(named) else list(usual)
    if not any(shutil.which(name) for name in names):
        return f"there is no {'C' if named == 'CC' else 'C++'} compiler here ({', '.join(names)})"
    return ""


def name_of(device: torch.device) -> str:
    """A device of this machine, as a user knows it."""
    kind = "CPU" if device.type == "cpu" else f"{device} {torch.cuda.get_device_name(device)}"
    return f"{kind} of {platform.node()}"


def describe_hardware(device: torch.device, precision: str) -> dict[str, Any]:
    """Hardware and versions for the record: figures without them mean little."""
    precision = settled(precision, device)
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return {"device": f"CPU, {threads} thread{'s' * (threads > 1)}", "arithmetic": precision} | _versions()
    tf32 = precision == "fp32" and torch.backends.cudnn.allow_tf32
    arithmetic = f"{precision}, {'TF32' if tf32 else 'fp32'} convolutions" if precision == "fp32" else precision
    return {"device": torch.cuda.get_device_name(device), "arithmetic": arithmetic} | _versions()


def _versions() -> dict[str, str]:
    from PIL import __version__ as pillow

    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "torchvision": version("torchvision"),
        "pillow": pillow,
    }
