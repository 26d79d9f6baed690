"""Names of runs, made from what tells them apart."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lshfm.config.compose import Job, changes_results
from lshfm.errors import InputError

LONGEST = 180  # a file system takes 255 bytes; endings and temporary names need some


def train_name(job: Job) -> str:
    """<dataset>_<network>[_<pool>]_<loss>_s<seed> and _<key>-<value> for whatever else was set."""
    values = job.values
    parts = [values["dataset"]["name"], network_name(job)]
    parts += [values["loss"].get("name") or str(job.choices["loss"]), f"s{values['seed']}"]
    others = {
        key: value
        for key, value in job.changed.items()
        if changes_results("train", key) and not _in_the_name(job, key, value) and not _is_default_weights(key, value)
    }
    return checked_name(values["name"]) if values["name"] else join("_".join(parts), others)


def network_name(job: Job) -> str:
    """The network, with its pooling unless that is GAP."""
    model = job.values["model"]
    pool = model.get("pool")
    name = str(model.get("name") or job.choices["model"])
    return name if pool in (None, "GAP") else f"{name}_{pool}"


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


def _in_the_name(job: Job, key: str, value: Any) -> bool:
    """Whether the part before the keys shows the value already."""
    network = job.values["model"].get("name")
    return key == "seed" or (key == "model.pool" and value != "GAP") or (key == "model.arch" and value == network)


def _is_default_weights(key: str, value: Any) -> bool:
    """auto either means imagenet or stops: the two are one run."""
    return key == "model.weights" and value in ("auto", "imagenet")
