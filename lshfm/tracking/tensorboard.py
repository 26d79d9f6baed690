"""TensorBoard: an event file in the run folder's `tensorboard`, for `tensorboard --logdir outputs`."""

import warnings
from collections.abc import Mapping

from lshfm.tracking.tracker import Tracked

with warnings.catch_warnings(action="ignore"):
    from torch.utils.tensorboard import SummaryWriter
    from torch.utils.tensorboard.summary import hparams

SCORE = "final/score"


class TensorBoard:
    """Scalars over the steps, the settings as hyper-parameters with the final score, and as a text."""

    def __init__(self, tracked: Tracked) -> None:
        self._step = tracked.since
        with warnings.catch_warnings(action="ignore"):
            # What an interrupted run wrote of steps that are done again is hidden.
            purged = {"purge_step": tracked.since + 1} if tracked.since else {}
            self._writer = SummaryWriter(str(tracked.folder / "tensorboard"), **purged)
            known = {key: _plain(value) for key, value in tracked.settings.items()}
            for summary in hparams(known, {SCORE: None}):
                self._writer.file_writer.add_summary(summary)  # type: ignore[attr-defined]
        rows = "\n".join(f"    {key}: {value}" for key, value in tracked.settings.items())
        self._writer.add_text("settings", rows, tracked.since)
        self._writer.flush()

    def write(self, step: int, epoch: float, values: Mapping[str, float]) -> None:
        """Scalars at a step, on the disk when this returns."""
        self._step = step
        for name, value in {**values, "epoch": epoch}.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def finish(self, final: Mapping[str, float]) -> None:
        """Scalars at the last step."""
        for name, value in final.items():
            self._writer.add_scalar(name, value, self._step)

    def close(self, *, finished: bool) -> None:  # noqa: ARG002
        """Close the file."""
        self._writer.close()


def _plain(value: object) -> object:
    return value if isinstance(value, bool | int | float | str) else str(value)
