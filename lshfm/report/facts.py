"""What a report knows of a run: plain values and arrays, whatever of them could be read."""

from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]
Curve = list[tuple[float, float]]  # (epochs done, value)

FINISHED, UNFINISHED, FAILED, FOREIGN = "finished", "unfinished", "failed", "foreign"


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run as its folder tells it; None and empty for what it does not tell, which `missing` says in words."""

    name: str
    folder: str
    command: str = ""  # train, mimic or eval
    stage: str | None = None  # of mimic
    state: str = FOREIGN
    ending: str | None = None  # what stopped a run that failed
    missing: tuple[str, ...] = ()
    network: str = ""  # that was trained or evaluated
    loss: str = ""
    teacher: str | None = None  # name of its checkpoint
    teacher_network: str | None = None
    dataset: str = ""
    split: str | None = None
    seed: int | None = None
    metric: str = ""  # "voc2010 mAP"
    score: float | None = None
    averaged: float | None = None  # the score of the mean of the last epochs' weights
    epoch: int | None = None  # that the score is of
    epochs: int | None = None  # that were asked for
    published: float | None = None  # the score of the recipe that the settings are of
    report: dict[str, Any] = field(default_factory=dict)  # every metric of the evaluation
    settings: dict[str, Any] = field(default_factory=dict)  # dotted keys that can change numbers
    curves: dict[str, Curve] = field(default_factory=dict)  # by name: losses, lr, score, beside it, images_per_second
    losses: tuple[str, ...] = ()  # which of the curves are losses
    beside: tuple[str, ...] = ()  # which of the curves were measured beside the score
    classes: tuple[str, ...] = ()
    arrays: Arrays = field(default_factory=dict)  # of the evaluation: ids, logits, targets, angle
    before: Arrays = field(default_factory=dict)  # of the student before its first step: angle
    checkpoint: str | None = None
    cost: dict[str, float | None] = field(default_factory=dict)  # seconds, images a second, MiB, share of waiting
    environment: dict[str, str] = field(default_factory=dict)
    command_line: tuple[str, ...] = ()

    @property
    def mimicry(self) -> dict[str, Any]:
        """The measures beside the teacher; empty where there are none."""
        found = self.report.get("mimicry")
        return found if isinstance(found, dict) else {}

    @property
    def is_finished(self) -> bool:
        """Whether its score is the final one."""
        return self.state == FINISHED
