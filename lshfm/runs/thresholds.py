"""NAME.thresholds.json beside a checkpoint: a threshold for each class and a temperature, chosen on held-out images."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from lshfm.errors import InputError
from lshfm.files.parse import parse_json
from lshfm.files.write import write_json
from lshfm.metrics.decisions import Decisions

VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """What was chosen for a network, on images that it was not trained on."""

    weights: str  # digest of the network's weights
    thresholds: dict[str, float] | None = None  # class -> probability
    goal: str | None = None  # f1, precision:0.9 or recall:0.9
    temperature: float = 1.0
    chosen_on: str  # data, in words
    figures: dict[str, Any]  # before and after, on the images that they were chosen on

    def decisions(self, activation: str) -> Decisions:
        """How outputs become labels."""
        chosen = None if self.thresholds is None else tuple(self.thresholds.values())
        return Decisions(activation, self.temperature, chosen)

    @property
    def words(self) -> str | None:
        """How the thresholds were chosen; None if none were."""
        return None if self.thresholds is None else f"goal {self.goal}, on {self.chosen_on}"

    def write(self, checkpoint: Path) -> Path:
        """Write the file beside a checkpoint, and return its path."""
        path = beside(checkpoint)
        write_json(path, {"version": VERSION} | asdict(self))
        return path

    @classmethod
    def of(cls, checkpoint: Path, weights: Callable[[], str]) -> Self | None:
        """Those of a checkpoint; None where there are none, or of weights with another digest than these.

        Raises InputError for a file that is damaged or of a newer version.
        """
        path = beside(checkpoint)
        if not path.is_file():
            return None
        try:
            entry = dict(parse_json(path.read_text(encoding="utf-8")))
            if entry.pop("version") > VERSION:
                raise InputError(f"{path} was written by a newer lshfm: upgrade to read it")
            read = cls(**{each.name: entry[each.name] for each in fields(cls)})
            _check(read)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"{path} is damaged: delete it, and lshfm eval thresholds=tune writes it anew") from error
        return read if read.weights == weights() else None


def beside(checkpoint: Path) -> Path:
    """Where the thresholds of a checkpoint lie."""
    return checkpoint.with_name(f"{checkpoint.stem}.thresholds.json")


def _check(read: Thresholds) -> None:
    values: Mapping[str, Any] = read.thresholds or {}
    if not all(type(value) in (int, float) for value in (*values.values(), read.temperature)) or read.temperature <= 0:
        raise ValueError("no numbers")
