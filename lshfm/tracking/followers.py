"""Trackers that follow a run's lines: the lines go where they always go first, then to each tracker."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lshfm.console import logger
from lshfm.engine.lines import Line, Lines
from lshfm.errors import InputError, printable
from lshfm.ranks.group import on_main
from lshfm.tracking.tracker import Tracked, Tracker, final_numbers, numbers_of, place_of

Opener = Callable[[Tracked], Tracker]


class Followers:
    """Lines, with trackers that follow them; one that fails is warned of once, and left out from then on.

    Trackers are opened with the first line: what was forgotten before is told to them. steps: of an epoch. At rank 0.
    """

    def __init__(self, lines: Lines, openers: Mapping[str, Opener], tracked: Tracked, steps: int) -> None:
        self.lines, self.tracked, self.steps = lines, tracked, steps
        self._openers = dict(openers)
        self._open: dict[str, Tracker] = {}

    def write(self, line: Line) -> None:
        """Add a line. Raises RunFailed when the disk of the lines themselves is full."""
        self.lines.write(line)
        self._open_all()
        (step, epoch), values = place_of(line, self.steps), numbers_of(line)
        self._each(lambda tracker: tracker.write(step, epoch, values))

    def forget_after(self, epochs_done: int, steps_done: int) -> None:
        """Drop the lines on later steps."""
        self.lines.forget_after(epochs_done, steps_done)
        self.tracked = replace(self.tracked, since=epochs_done * self.steps + steps_done)

    def finish(self, metric: str, score: float | None, report: Mapping[str, Any]) -> None:
        """Tell the final metrics, and close."""
        final = final_numbers(metric, score, report)
        self._open_all()
        self._each(lambda tracker: tracker.finish(final))
        self._close(finished=True)

    def close(self) -> None:
        """Close what is open, of a run that was stopped or failed; after `finish` nothing is."""
        self._close(finished=False)

    def _close(self, *, finished: bool) -> None:
        self._each(lambda tracker: tracker.close(finished=finished))
        self._open, self._openers = {}, {}

    def _open_all(self) -> None:
        openers, self._openers = self._openers, {}
        for name, opener in openers.items():
            self._guarded(name, lambda name=name, opener=opener: self._open.update({name: opener(self.tracked)}))  # type: ignore[misc]

    def _each(self, act: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._open.items()):
            self._guarded(name, lambda tracker=tracker: act(tracker))  # type: ignore[misc]

    def _guarded(self, name: str, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # noqa: BLE001 - whatever a tracker's library raises, the run goes on
            self._open.pop(name, None)
            why = printable(str(error).strip().split("\n")[0]) or type(error).__name__
            logger.warning(
                "track=%s failed, and is left out for the rest of this run: %s; metrics.jsonl has all of it", name, why
            )


def followed(lines: Lines, names: Sequence[str], folder: Path, settings: Mapping[str, Any], steps: int) -> Followers:
    """The lines of the run in `folder`, with the named trackers behind them at rank 0; all ranks together.

    settings: dotted keys, the hyper-parameters. steps: of an epoch. Raises InputError where a library is missing.
    """
    openers: dict[str, Opener] = {}
    if names:
        on_main(lambda: openers.update(openers_of(names)), "opening the trackers")
    return Followers(lines, openers, Tracked(folder.name, folder, settings), steps)


def openers_of(names: Sequence[str]) -> dict[str, Opener]:
    """The trackers by name, their libraries imported. Raises InputError naming the command that installs one."""
    return {name: _opener(name) for name in names}


def _opener(name: str) -> Opener:
    try:
        if name == "csv":
            from lshfm.tracking.csv_file import CsvFile as Chosen
        elif name == "tensorboard":
            from lshfm.tracking.tensorboard import TensorBoard as Chosen  # type: ignore[assignment]
        elif name == "wandb":
            from lshfm.tracking.wandb import WandB as Chosen  # type: ignore[assignment]
        else:
            from lshfm.tracking.mlflow import MLflow as Chosen  # type: ignore[assignment]
    except ImportError as error:
        raise InputError(f"track={name} needs {name} ({error}): pip install 'lshfm[{name}]'") from error
    return Chosen
