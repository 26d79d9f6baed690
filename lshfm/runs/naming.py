"""Names of runs, made from what tells them apart."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lshfm.config.compose import Job, changes_results
from lshfm.config.teachers import without_pooling
from lshfm.errors import InputError

LONGEST = 180  # a file system takes 255 bytes; endings and temporary names need some


def train_name(job: Job) -> str:
    """<dataset>_<network>[_<pool>]_<loss>_s<seed> and _<key>-<value> for whatever else was set."""
    values = job.values
    stem = [values["dataset"]["name"], network_name(job, "model"), _option(job, "loss"), f"s{values['seed']}"]
    return checked_name(values["name"]) if values["name"] else join("_".join(stem), _others("train", job, ("model",)))


def mimic_name(job: Job, teacher: str) -> str:
    """<dataset>_<teacher>_<student>_<loss>_s<seed>_stage<1|2>, or the name given and the stage; keys as in train."""
    values, stage = job.values, f"stage{job.values['stage']['name']}"
    if values["name"]:
        return checked_name(f"{values['name']}_{stage}")
    networks = [teacher, network_name(job, "student"), _option(job, "loss")]
    stem = [values["dataset"]["name"], *networks, f"s{values['seed']}", stage]
    label = _option(job, "label_loss")
    others = ({"label_loss": label} if label != "bce" else {}) | _others("mimic", job, ("teacher", "student"))
    used = {key: value for key, value in others.items() if used_in_stage(values, key)}
    return join("_".join(stem), {key.replace("teacher.path", "teacher"): value for key, value in used.items()})


def used_in_stage(values: Mapping[str, Any], key: str) -> bool:
    """Whether a key of mimic matters to its stage: labels to stage 2, starting weights to where they start."""
    if values["stage"]["name"] == "1":
        return not key.startswith("label_loss") and key not in {"loss.gamma", "student.init"}
    return key != "student.weights" or not values["student"]["projection"]


def network_name(job: Job, role: str) -> str:
    """The network of the group `role`, with its pooling unless that is GAP."""
    network = job.values[role]
    pool = network.get("pool")
    name = str(network.get("name") or without_pooling(str(job.choices[role])))
    return name if pool in (None, "GAP") else f"{name}_{pool}"


def _option(job: Job, group: str) -> str:
    return str(job.values[group].get("name") or job.choices[group])


def _others(command: str, job: Job, roles: Sequence[str]) -> dict[str, Any]:
    """What was set beside the options and is not shown by the names of the networks in `roles`."""
    return {
        key: value
        for key, value in job.changed.items()
        if changes_results(command, key) and key != "seed" and not any(_says_nothing(job, r, key, value) for r in roles)
    }


def _says_nothing(job: Job, role: str, key: str, value: Any) -> bool:
    """Whether the network's own name shows the value already, or it is what holds anyway."""
    shown = {
        f"{role}.pool": value != "GAP",
        f"{role}.arch": value == job.values[role].get("name"),
        f"{role}.weights": value in ("auto", "imagenet"),  # auto either means imagenet or stops: the two are one run
        f"{role}.projection": value is True,  # as auto
    }
    return bool(shown.get(key, False))


def join(stem: str, others: Mapping[str, Any]) -> str:
    """A stem and _<key>-<value> for each of `others`, of letters, digits and ._- only."""
    short = [key.rpartition(".")[2] for key in others]
    names = [key if short.count(last) > 1 else last for key, last in zip(others, short, strict=True)]
    parts = [f"{name}-{_shown(value)}" for name, value in zip(names, others.values(), strict=True)]
    name = plain("_".join([stem, *parts]))
    if len(name) <= LONGEST:
        return name
    return f"{name[: LONGEST - 9]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def checked_name(name: str) -> str:
    """A name that the user gave. Raises InputError unless it is letters, digits and ._- only."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or len(name) > LONGEST:
        raise InputError(
            f"name={name}: a name is at most {LONGEST} letters, digits and ._- and starts with a letter or digit"
        )
    return name


def file_names(labels: Sequence[str]) -> list[str]:
    """Labels as parts of file names: plain, and still different from each other."""
    names = [plain(label) for label in labels]
    return [f"{n}-{i}" if names.count(n) > 1 else n for i, n in enumerate(names)]


def plain(text: str) -> str:
    """The text with everything but letters, digits and ._- replaced: nothing in it leads to another folder."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return "-".join(map(_shown, value)) or "none"
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, str) and "/" in value:
        return Path(value).stem
    return f"{value:.15g}" if isinstance(value, float) else str(value)
