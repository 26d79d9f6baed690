"""Where a run computes and how: the device, its precision, its name for the record."""

import os
import platform
from typing import Any

import torch

from lshfm.errors import InputError


def choose(gpus: Any) -> torch.device:
    """The device that `gpus` asks for: [i] a CUDA device, [] the CPU, n > 0 the first n, None the default.

    Raises InputError for what is no such list, names a device that is not there, or names several.
    """
    available = torch.cuda.device_count()
    if gpus is None:
        return torch.device("cuda", 0) if available else torch.device("cpu")
    listed = _listed(gpus)
    if not listed:
        return torch.device("cpu")
    if len(listed) > 1:
        raise InputError(f"gpus={gpus}: training on several GPUs is not there yet; name one, as gpus=[{listed[0]}]")
    if listed[0] >= available:
        there = f"CUDA devices here: {list(range(available))}" if available else "this machine has no CUDA device"
        raise InputError(f"gpus={gpus}: {there}; gpus=[] runs on the CPU")
    return torch.device("cuda", listed[0])


def _listed(gpus: Any) -> list[int]:
    whole = isinstance(gpus, int) and not isinstance(gpus, bool)
    if whole and gpus > 0:
        return list(range(gpus))
    if whole and gpus == 0:
        raise InputError("gpus=0 could mean two things: gpus=[0] is the first GPU, gpus=[] is the CPU")
    if isinstance(gpus, list) and all(type(g) is int and g >= 0 for g in gpus) and len(set(gpus)) == len(gpus):
        return gpus
    raise InputError(f"gpus={gpus}: must be a list of device numbers as [0,1], a number n > 0, or [] for the CPU")


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
