"""What figures were made by and cost: the revision of the code, the process's memory."""

import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

CHECKOUT = Path(__file__).resolve().parents[2]


def revision(checkout: Path = CHECKOUT) -> str | None:
    """The git commit that the package was at, with -dirty where files differ; None if it lies in no checkout."""
    if not (checkout / ".git").exists():
        return None
    command = ["git", "--no-optional-locks", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    # Within a hook, git's own variables are those of another repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):  # no git, no commit yet, or somebody else's folder
        return None
    return done.stdout.strip()


def peak_memory(device: "torch.device") -> dict[str, int | None]:
    """The most memory that this process has held since it began, in MiB.

    host_MiB: resident in the machine's memory, without decode workers. gpu_MiB: tensors on `device`; None on a CPU.
    """
    import torch

    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit
    gpu = torch.cuda.max_memory_allocated(device) // 2**20 if device.type == "cuda" else None
    return {"host_MiB": host, "gpu_MiB": gpu}
