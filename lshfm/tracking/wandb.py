"""Weights & Biases: a run of the project WANDB_PROJECT, or of `lshfm`; WANDB_MODE=offline needs no network."""

import os
from collections.abc import Mapping

import wandb

from lshfm.tracking.tracker import Tracked

PROJECT = "lshfm"


class WandB:
    """Numbers over the steps; settings as config, final metrics as summary. A run that goes on keeps its id."""

    def __init__(self, tracked: Tracked) -> None:
        if os.environ.get("WANDB_MODE", "online") == "online" and not wandb.login(
            prompt=False
        ):  # it would ask, and wait
            raise RuntimeError("nobody is logged in: run `wandb login`, or set WANDB_MODE=offline")
        settings = wandb.Settings(console="off", silent=True, save_code=False, init_timeout=60)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT), name=tracked.name, id=tracked.known_as("wandb"),
            resume="allow", dir=str(tracked.folder), config=dict(tracked.settings), settings=settings,
        )  # fmt: skip
        tracked.call("wandb", self._run.id)
        self._run.define_metric("*", step_metric="step")

    def write(self, step: int, epoch: float, values: Mapping[str, float]) -> None:
        """Numbers over the key `step`, which may be gone through again after a stop."""
        self._run.log({**values, "epoch": epoch, "step": step})

    def finish(self, final: Mapping[str, float]) -> None:
        """The summary."""
        self._run.summary.update(dict(final))

    def close(self, *, finished: bool) -> None:
        """Send what is left."""
        self._run.finish(exit_code=0 if finished else 1)
