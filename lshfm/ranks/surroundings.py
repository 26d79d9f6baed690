"""What the variables of torchrun and srun say of the ranks that they started."""

import os
import re
from collections.abc import Mapping

from lshfm.errors import InputError
from lshfm.ranks.group import Place


def surrounding(environment: Mapping[str, str] = os.environ) -> Place | None:
    """This process's place among ranks that torchrun or srun started; None if they did not.

    Raises InputError for an environment that names only some of what torchrun sets.
    """
    if "RANK" in environment and "WORLD_SIZE" in environment:
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        try:
            return Place(*(int(environment[name]) for name in names))
        except (KeyError, ValueError) as error:
            raise InputError(f"RANK is set, so {', '.join(names)} must be, to whole numbers: {error}") from error
    if int(environment.get("SLURM_STEP_NUM_TASKS", 1)) > 1:  # srun's own: in a batch script it is not set
        rank, node, local = (int(environment[f"SLURM_{name}"]) for name in ("PROCID", "NODEID", "LOCALID"))
        per_node = _counts(environment["SLURM_STEP_TASKS_PER_NODE"])
        return Place(rank, sum(per_node), local, per_node[node])
    return None


def _counts(text: str) -> list[int]:
    """SLURM's tasks a node, `2(x3),1`, as [2, 2, 2, 1]."""
    groups = re.findall(r"(\d+)(?:\(x(\d+)\))?", text)
    return [int(tasks) for tasks, times in groups for _ in range(int(times or 1))]


def address(environment: Mapping[str, str]) -> tuple[str, int]:
    """Where rank 0 of an srun step listens: on its first machine, at a port made from the step's numbers."""
    nodes = environment.get("SLURM_STEP_NODELIST") or environment["SLURM_JOB_NODELIST"]
    prefix, bracket = re.match(r"([^,\[]+)(?:\[(\d+))?", nodes).groups()  # type: ignore[union-attr]
    job, step = (int(environment.get(name, 0)) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
    port = int(environment.get("MASTER_PORT", 20000 + (job * 31 + step) % 20000))
    return environment.get("MASTER_ADDR", prefix + (bracket or "")), port


def evidence(environment: Mapping[str, str] = os.environ) -> str:
    """Which variables say that there are several ranks, and how a command runs without them, in words."""
    names, who = (("RANK", "WORLD_SIZE"), "torchrun") if "RANK" in environment else (("SLURM_STEP_NUM_TASKS",), "srun")
    say = "say" if len(names) > 1 else "says"
    given = " and ".join(f"{name}={environment.get(name)}" for name in names)
    unset = " ".join(f"-u {name}" for name in names)
    return (
        f"{given} {say} that {who} started them, as in a shell within its job too. If there are no others, "
        f"`env {unset} lshfm ...` runs alone; Ctrl-C ends this"
    )
