"""What a run's results and settings tell of it for reports: network, teacher, cost, versions; None if they do not."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lshfm.engine.lines import Line, StepLine
from lshfm.runs.record import Results

_ENVIRONMENT = ("device", "arithmetic", "python", "torch", "torchvision", "pillow", "cuda", "driver")


def published_score(settings: Mapping[str, Any]) -> float | None:
    """The score that the recipe of a run's settings tells for its loss; None without a recipe or number."""
    expected = at(settings, "recipe", "expected_mAP")
    if not isinstance(expected, dict) or at(settings, "stage", "name") == "1":
        return None
    value = expected.get(at(settings, "loss", "name"))
    return float(value) if isinstance(value, int | float) else None


def averaged_score(results: Results | None) -> float | None:
    """The score of the mean of the last epochs' weights."""
    value = at(results.average, "score") if results and results.average else None
    return float(value) if isinstance(value, int | float) else None


def report_of(results: Results | None, settings: Mapping[str, Any]) -> dict[str, Any]:
    told = at(settings, "recipe", "teacher_mAP")
    return (dict(results.report) if results else {}) | ({"published_teacher": told} if told else {})


def at(settings: Mapping[str, Any], *keys: str) -> Any:
    """A nested value; None where it is not there."""
    value: Any = settings
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def command_of(settings: Mapping[str, Any], path: Path) -> str:
    if settings:
        return "mimic" if "student" in settings else "train"
    return path.parent.name if path.parent.name in ("train", "mimic", "eval") else "train"


def stage_of(results: Results | None, settings: Mapping[str, Any]) -> str | None:
    stage = (results and results.stage) or at(settings, "stage", "name")
    return None if stage is None else str(stage)


def network_of(settings: Mapping[str, Any], results: Results | None) -> str:
    node = settings.get("student") or settings.get("model") or {}
    name, pool = at(node, "name") or at(node, "arch"), at(node, "pool")
    if not name:
        return results.name if results else ""
    return str(name) if pool in (None, "GAP") else f"{name}_{pool}"


def loss_of(settings: Mapping[str, Any], results: Results | None) -> str:
    return str((results and results.loss) or at(settings, "loss", "name") or "")


def teacher_of(results: Results | None, settings: Mapping[str, Any]) -> str | None:
    """The name of the teacher's checkpoint, which is its run's."""
    path = at(results.teacher, "checkpoint") if results and results.teacher else at(settings, "teacher", "path")
    name = at(results.teacher, "name") if results and results.teacher else None
    return Path(str(path)).stem if path else name


def cost_of(results: Results | None, lines: Sequence[Line]) -> dict[str, float | None]:
    """Speed (images/s), time (s), peak memory, and the share of time that ranks waited (%), where they are known."""
    steps = [line for line in lines if isinstance(line, StepLine)]
    rates = [line.images_per_second for line in steps if line.images_per_second]
    cost: dict[str, float | None] = {"images_per_second": float(np.mean(rates)) if rates else None}
    if results:
        memory = results.peak_memory or {}
        rate = results.images_per_second or cost["images_per_second"]
        cost |= {
            "images_per_second": rate, "training_seconds": results.training_seconds,
            "evaluation_seconds": results.evaluation_seconds, **{k: v for k, v in memory.items() if v is not None},
        }  # fmt: skip
        waited = sum(line.waiting.seconds for line in steps if line.waiting)
        if results.training_seconds and any(line.waiting for line in steps):
            cost["waiting"] = 100 * waited / results.training_seconds
    return cost


def environment_of(results: Results | None) -> dict[str, str]:
    if not results:
        return {}
    known = {"lshfm": results.lshfm, "revision": results.revision} | {
        name: (results.hardware or {}).get(name) for name in (*_ENVIRONMENT, *(results.hardware or {}))
    }
    return {name: str(value) for name, value in known.items() if value is not None}
