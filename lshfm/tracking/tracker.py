"""What every tracker does, and what it is told of its run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from lshfm.engine.lines import EpochLine, Line, StepLine
from lshfm.files.parse import parse_json
from lshfm.files.write import write_json

STATE = "tracking.json"  # in the run folder: what trackers call the run, so that they go on with it


@dataclass(frozen=True)
class Tracked:
    """A run as trackers see it."""

    name: str
    folder: Path
    settings: Mapping[str, Any]  # dotted keys: the hyper-parameters
    since: int = 0  # steps that were done before, by this run when it was stopped

    def known_as(self, tracker: str) -> str | None:
        """What a tracker called the run when it began; None for a new one."""
        try:
            names = parse_json((self.folder / STATE).read_text(encoding="utf-8"))
            return str(names[tracker])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def call(self, tracker: str, name: str) -> None:
        """Keep what a tracker calls the run."""
        path = self.folder / STATE
        try:
            names = dict(parse_json(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            names = {}
        write_json(path, names | {tracker: name})


class Tracker(Protocol):
    """A place that a run's numbers go to. Any exception means that it has failed: the run goes on without it."""

    def write(self, step: int, epoch: float, values: Mapping[str, float]) -> None:
        """Numbers by name, after so many steps of the run and epochs."""
        ...

    def finish(self, final: Mapping[str, float]) -> None:
        """The final metrics of a finished run."""
        ...

    def close(self, *, finished: bool) -> None:
        """Let go of files and connections; `finished` is False where the run was stopped or failed."""
        ...


def numbers_of(line: Line) -> dict[str, float]:
    """A line's numbers by name: those of steps under train/, those of evaluations under eval/."""
    if isinstance(line, StepLine):
        waited = line.waiting.seconds if line.waiting else None
        values = {**line.losses, "lr": line.lr, "images_per_second": line.images_per_second, "waiting_seconds": waited}
        return _known("train", values)
    return _known("eval", {line.metric: line.score, "loss": line.validation_loss, **line.beside})


def place_of(line: Line, steps: int) -> tuple[int, float]:
    """Steps and epochs done when the line was written. steps: of an epoch."""
    if isinstance(line, EpochLine):
        return line.epoch * steps, float(line.epoch)
    done = (line.epoch - 1) * steps + line.step
    return done, done / steps


def final_numbers(metric: str, score: float | None, report: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a finished run's evaluation, by dotted name; those of single classes are left out."""
    found: dict[str, float | None] = {"score": score, metric: score}
    for name, value in report.items():
        inner = value.items() if isinstance(value, Mapping) and name != "ap" else [("", value)]
        found |= {f"{name}.{key}".rstrip("."): each for key, each in inner}
    return _known("final", found)


def _known(group: str, values: Mapping[str, Any]) -> dict[str, float]:
    return {
        f"{group}/{name.replace(' ', '_')}": float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
