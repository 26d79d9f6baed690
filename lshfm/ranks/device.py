"""Where a run computes and how: the device, its precision, its name for the record."""

import os
import platform
from typing import Any

import torch

from lshfm.errors import InputError
from lshfm.ranks.group import Place


def choose(gpus: Any, ranks: int | None = None, given: Place | None = None) -> list[torch.device]:
    """The device of each rank on this machine.

    gpus: [i, ...] CUDA devices, [] the CPU, n > 0 the first n, None the default. ranks: how many on a CPU; on GPUs
    there is one on each. given: where this process stands among ranks that were started from outside.
    Raises InputError for what is no such list, for devices that are not there, and for numbers that do not fit.
    """
    if given and ranks not in (None, given.num):
        raise InputError(f"ranks={ranks}: {given.num} were started from outside; leave ranks= away")
    available = torch.cuda.device_count()
    default = list(range(given.local_num if given else 1)) if available else []
    listed = default if gpus is None else _listed(gpus)
    if not listed:
        return [torch.device("cpu")] * (given.local_num if given else ranks or 1)
    if given and len(listed) < given.local_num:
        raise InputError(f"gpus={gpus}: {given.local_num} ranks were started on this machine, one a GPU")
    if not given and ranks not in (None, len(listed)):
        raise InputError(f"ranks={ranks}: on GPUs there is one rank each: gpus={ranks}, or gpus=[] for the CPU")
    if max(listed) >= available:
        there = f"CUDA devices here: {list(range(available))}" if available else "this machine has no CUDA device"
        raise InputError(f"gpus={listed if gpus is None else gpus}: {there}; gpus=[] runs on the CPU")
    return [torch.device("cuda", number) for number in listed[: given.local_num if given else None]]


def _listed(gpus: Any) -> list[int]:
    whole = isinstance(gpus, int) and not isinstance(gpus, bool)
    if whole and gpus > 0:
        return list(range(gpus))
    if whole and gpus == 0:
        raise InputError("gpus=0 could mean two things: gpus=[0] is the first GPU, gpus=[] is the CPU")
    if isinstance(gpus, list) and all(type(g) is int and g >= 0 for g in gpus) and len(set(gpus)) == len(gpus):
        return gpus
    raise InputError(f"gpus={gpus}: must be a list of device numbers as [0,1], a number n > 0, or [] for the CPU")


def share_cores(parts: int) -> None:
    """Leave the machine's other ranks their cores, unless the environment says how many threads there are to be."""
    if parts > 1 and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // parts))


def prepare(device: torch.device, *, deterministic: bool) -> None:
    """Set the process up for `device`; deterministic allows only algorithms with repeatable bits."""
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not deterministic
    if device.type == "cuda":
        torch.cuda.set_device(device)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Mixed precision for the network's own arithmetic; losses stay outside, in fp32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def name(device: torch.device) -> str:
    """A device of this machine, as a user knows it."""
    kind = "CPU" if device.type == "cpu" else f"{device} {torch.cuda.get_device_name(device)}"
    return f"{kind} of {platform.node()}"


def describe(device: torch.device, precision: str) -> dict[str, Any]:
    """Hardware and versions for the record: figures without them mean little."""
    if device.type == "cpu":
        return {"device": f"CPU, {torch.get_num_threads()} threads", "arithmetic": precision} | _versions()
    tf32 = precision == "fp32" and torch.backends.cudnn.allow_tf32
    arithmetic = f"{precision}, {'TF32' if tf32 else 'fp32'} convolutions" if precision == "fp32" else precision
    return {"device": torch.cuda.get_device_name(device), "arithmetic": arithmetic} | _versions()


def _versions() -> dict[str, str]:
    import torchvision
    from PIL import __version__ as pillow

    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "torchvision": str(torchvision.__version__),
        "pillow": pillow,
    }
