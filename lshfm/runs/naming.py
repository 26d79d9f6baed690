"""Names of runs, made from what tells them apart."""

import hashlib
import json
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lshfm.config.catalogue import options, starts_from_imagenet
from lshfm.config.changes import changes_results, flatten
from lshfm.config.compose import Job
from lshfm.config.groups import Network
from lshfm.config.keys import plain as plain_settings
from lshfm.config.schema import Mimic, Train
from lshfm.errors import InputError
from lshfm.files.names import plain

LONGEST = 120  # of names made here: they still fit in a line, and in a path
LONGEST_TYPED = 180  # a file system takes 255 bytes; endings and temporary names need some
# Data sets whose name says how files are laid out, not whose they are.
LAYOUTS = ("manifest", "coco", "boxes", "coco_detection")


def train_name(job: Job[Train], *, also: Collection[str] = ()) -> str:
    """<dataset>_<network>[_<pool>]_<loss>_s<seed> and _<key>-<value> for whatever else was set.

    also: keys that change no result, to be shown too.
    """
    settings = job.settings
    if settings.name:
        return checked_name(settings.name)
    stem = [_data_title(job), settings.model.title, settings.loss.title, f"s{settings.seed}"]
    return join("_".join(stem), _others(job, {"model": settings.model}, also), _keys(settings))


def mimic_name(job: Job[Mimic], teacher: str, *, also: Collection[str] = ()) -> str:
    """<dataset>_<teacher>_<student>_<loss>_s<seed>_stage<1|2>, or the name given and the stage; keys as in train."""
    settings, stage = job.settings, f"stage{job.settings.stage.name}"
    if settings.name:
        return f"{checked_name(settings.name)}_{stage}"
    networks = [teacher, settings.student.title, settings.loss.title]
    stem = [_data_title(job), *networks, f"s{settings.seed}", stage]
    label = settings.label_loss.title
    usual = {"bce", "ce", "detector"} & {"bce", settings.dataset.default_label_loss}
    others = {} if label in usual else {"label_loss": label}
    others |= _others(job, {"teacher": settings.teacher, "student": settings.student}, also)
    used = {key: value for key, value in others.items() if used_in_stage(settings, key)}
    named = {key.replace("teacher.path", "teacher"): value for key, value in used.items()}
    return join("_".join(stem), named, _keys(settings))


def data_title(name: str, root: Any, folders: Sequence[Path] = ()) -> str:
    """What runs call a data set: its name, or that of its folder where the name says only how files are laid out.

    root: its folder, if it has one. folders: of --config-dir. A folder that is called as another data set is keeps
    the name before its own.
    """
    if name not in LAYOUTS or not isinstance(root, str):
        return name
    folder = plain(Path(os.path.abspath(root)).name).strip("._-")  # noqa: PTH100 - a link counts by its own name
    if folder in ("", name):
        return name
    return f"{name}-{folder}" if folder in options("dataset", folders) else folder


def _data_title(job: Job[Train] | Job[Mimic]) -> str:
    dataset = job.settings.dataset
    return data_title(dataset.name, dataset.own.get("root"), job.folders)


def used_in_stage(settings: Mimic, key: str) -> bool:
    """Whether a key of mimic matters to its stage: labels to stage 2, starting weights to where they start."""
    if settings.is_stage1:
        return not key.startswith("label_loss") and key not in {"loss.gamma", "loss.alpha", "student.init"}
    return key != "student.weights" or not settings.student.projection


def _keys(settings: Train | Mimic) -> list[str]:
    """The keys that names may show."""
    keys = flatten(plain_settings(settings))
    aside = ("teacher.",) if isinstance(settings, Mimic) else ()
    return [k for k in keys if changes_results(settings.command, k) and k != "seed" and not k.startswith(aside)]


def _others(job: Job[Train] | Job[Mimic], networks: Mapping[str, Network], also: Collection[str]) -> dict[str, Any]:
    """What was set beside the options and is not shown by the names of the networks."""
    return {
        key: value
        for key, value in job.changed.items()
        if (changes_results(job.settings.command, key) or key in also)
        and key != "seed"
        and not any(_says_nothing(role, network, key, value, job) for role, network in networks.items())
    }


def _says_nothing(role: str, network: Network, key: str, value: Any, job: Job[Train] | Job[Mimic]) -> bool:
    """Whether the network's own name shows the value already, or it is what holds anyway."""
    shown: dict[str, Callable[[], bool]] = {
        f"{role}.pool": lambda: value != "GAP",
        f"{role}.arch": lambda: value == network.name,
        # auto either means imagenet or stops: where one is the default, the two are one run
        f"{role}.weights": lambda: (
            value in ("auto", "imagenet")
            and starts_from_imagenet(str(network.option), job.settings.dataset.preset, job.folders)
        ),
        f"{role}.projection": lambda: value is True,  # as auto
    }
    return key in shown and shown[key]()


def join(stem: str, others: Mapping[str, Any], keys: Collection[str] = ()) -> str:
    """A stem and _<key>-<value> for each of `others`, of letters, digits and ._- only.

    keys: all that could have been set. A key's last word stands for it where it is that of no other.
    """
    inner = [key for key in others if ".terms." in key]
    words = [_last(key) for key in {*others, *(key for key in keys if ".terms." not in key)}]
    names = [key if key in inner or words.count(_last(key)) > 1 else _last(key) for key in others]
    parts = [f"{name}-{_shown(value)}" for name, value in zip(names, others.values(), strict=True)]
    return cut("_".join([stem, *parts]), LONGEST)


def cut(text: str, longest: int) -> str:
    """A text as a name of at most so many characters, whose end stands for what is cut off."""
    name = plain(text)
    if len(name) <= longest:
        return name
    return f"{name[: longest - 9]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def checked_name(name: str) -> str:
    """A name that the user gave, without the ending of checkpoints, which they get anyway.

    Raises InputError unless it is letters, digits and ._- only.
    """
    bare = re.sub(r"(\.ckpt)+\Z", "", name)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", bare) or len(bare) > LONGEST_TYPED:
        raise InputError(
            f"name={name}: a name is at most {LONGEST_TYPED} letters, digits and ._- and starts with a letter or digit"
        )
    return bare


def file_title(path: Path) -> str:
    """What a file is called in names: best.ckpt and others of a run's folder with its name, all else by itself."""
    with suppress(RuntimeError):  # ~USER, and no such user: not of a path that leads anywhere
        path = path.expanduser()
    folder = path.absolute().parent.name
    is_of_run = re.fullmatch(r"(average|best|last(-\d+)?)\.ckpt", path.name)
    return f"{folder}_{path.stem}" if is_of_run and folder else path.stem


def _last(key: str) -> str:
    return key.rpartition(".")[2]


def _shown(value: Any) -> str:
    """A value in a name. What loses characters there, or where one text of a list ends, is told apart by a hash."""
    if isinstance(value, str) and ("/" in value or value.endswith(".ckpt")):
        return file_title(Path(value))
    texts = [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str)]
    is_exact = all(re.fullmatch(r"[A-Za-z0-9._]+", text) for text in texts) or texts == [value] == [plain(str(value))]
    return _words(value) if is_exact else f"{_words(value)}-{_digest(value)}"


def _words(value: Any) -> str:
    if isinstance(value, list):
        return "-".join(map(_words, value)) or "none"
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, float):
        short = f"{value:.15g}"
        return short if float(short) == value else repr(value)
    return str(value)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:6]
