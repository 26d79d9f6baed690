"""Names that version 0.1.0 made, under which its runs still lie: not to be changed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lshfm.config.changes import ONCE_COUNTED, changes_results
from lshfm.config.compose import Job
from lshfm.config.groups import Network
from lshfm.config.schema import Mimic, Train
from lshfm.runs.naming import cut, used_in_stage

LONGEST = 180


def older_train_name(job: Job[Train]) -> str:
    """<dataset>_<network>[_<pool>]_<loss>_s<seed> and _<key>-<value> for whatever else was set."""
    settings = job.settings
    stem = [settings.dataset.name, settings.model.title, settings.loss.title, f"s{settings.seed}"]
    return settings.name or _join("_".join(stem), _others(job, {"model": settings.model}))


def older_mimic_name(job: Job[Mimic], teacher: str) -> str:
    """<dataset>_<teacher>_<student>_<loss>_s<seed>_stage<1|2>, or the name given and the stage; keys as in train."""
    settings, stage = job.settings, f"stage{job.settings.stage.name}"
    if settings.name:
        return f"{settings.name}_{stage}"
    stem = [settings.dataset.name, teacher, settings.student.title, settings.loss.title, f"s{settings.seed}", stage]
    label = settings.label_loss.title
    others = {"label_loss": label} if label != "bce" else {}
    others |= _others(job, {"teacher": settings.teacher, "student": settings.student})
    used = {key: value for key, value in others.items() if used_in_stage(settings, key)}
    return _join("_".join(stem), {key.replace("teacher.path", "teacher"): value for key, value in used.items()})


def _others(job: Job[Train] | Job[Mimic], networks: Mapping[str, Network]) -> dict[str, Any]:
    return {
        key: value
        for key, value in job.changed.items()
        if (changes_results(job.settings.command, key) or key in ONCE_COUNTED)
        and key != "seed"
        and not any(_says_nothing(role, network, key, value) for role, network in networks.items())
    }


def _says_nothing(role: str, network: Network, key: str, value: Any) -> bool:
    shown = {
        f"{role}.pool": value != "GAP",
        f"{role}.arch": value == network.name,
        f"{role}.weights": value in ("auto", "imagenet"),
        f"{role}.projection": value is True,
    }
    return bool(shown.get(key, False))


def _join(stem: str, others: Mapping[str, Any]) -> str:
    short = [key.rpartition(".")[2] for key in others]
    names = [key if short.count(last) > 1 else last for key, last in zip(others, short, strict=True)]
    parts = [f"{name}-{_shown(value)}" for name, value in zip(names, others.values(), strict=True)]
    return cut("_".join([stem, *parts]), LONGEST)


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return "-".join(map(_shown, value)) or "none"
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, str) and "/" in value:
        return Path(value).stem
    return f"{value:.15g}" if isinstance(value, float) else str(value)
