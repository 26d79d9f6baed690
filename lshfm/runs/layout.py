"""The layout of finished checkpoints: packed when a run ends, checked when a file is read.

Plain values and tensors only. A network and a data set are named by their option in conf/, never by code.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lshfm import __version__
from lshfm.config.groups import Network
from lshfm.config.keys import plain, without_code
from lshfm.config.schema import Training
from lshfm.errors import InputError
from lshfm.files.read import read_checkpoint
from lshfm.models.run_state import VERSION as RUN_VERSION
from lshfm.models.run_state import describe, is_run_state, network_of_run

FORMAT, VERSION = "lshfm", 1
HOLD_TENSORS = ("model", "constants")  # all else is plain values
AS_TRAINED = ("eval_batch_size", "precision", "channels_last")  # eval takes these from training unless they are typed


def pack(
    settings: Training, trained: Network, network: nn.Module, classes: Sequence[str], **record: Any
) -> dict[str, Any]:
    """A checkpoint's content; `record` (metrics, epoch, hardware, ...) is added to it.

    trained: the network's settings, of the group model or student.
    """
    weights = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
    return {"format": FORMAT, "version": VERSION, "model": weights} | named(settings, trained, classes) | record


def named(settings: Training, trained: Network, classes: Sequence[str]) -> dict[str, Any]:
    """What a checkpoint says of its network and its data set."""
    dataset = settings.dataset
    return {
        "lshfm": __version__,
        "classes": list(classes),
        "size": dataset.size,
        "mean": dataset.mean,
        "std": dataset.std,
        "network": {"option": trained.option, "values": trained.without_code()},
        "dataset": {"option": dataset.option, "values": dataset.without_code()},
        "config": without_code(plain(settings)),
    }


def unpack(path: Path, *, whole: bool = True) -> dict[str, Any]:
    """Read a finished checkpoint; `whole` as in read_checkpoint. Raises InputError if it is damaged or too new."""
    content = read_checkpoint(path, whole=whole)
    if content.get("format") != FORMAT:
        raise InputError(
            f"{path} is no checkpoint of lshfm, so it names neither data set nor network: "
            "add dataset=... and model=... to evaluate it"
        )
    return _checked(path, content)


def content_of(path: Path) -> dict[str, Any] | None:
    """That of a finished checkpoint, or of the state of a run as if it had finished; None for other files.

    Older versions did not say in last.ckpt which network it holds. Raises InputError as `unpack` does.
    """
    file = read_checkpoint(path, whole=False)
    if file.get("format") == FORMAT:
        return unpack(path)
    return _of_run(path) if is_run_state(file) and "network" in file else None


def about_run(path: Path) -> str | None:
    """In words, which state of a run a file holds, and which files hold its networks; None for other files."""
    file = read_checkpoint(path, whole=False)
    return describe(path, file) if is_run_state(file) else None


def _of_run(path: Path) -> dict[str, Any]:
    file = read_checkpoint(path)
    if not isinstance(file.get("version"), int) or file["version"] > RUN_VERSION:
        raise InputError(f"{path} was written by a newer lshfm ({file.get('lshfm')}): upgrade to read it")
    try:
        weights = network_of_run(file).state
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    is_stage1 = file.get("command") == "mimic" and file.get("stage") == "1"
    constants = {"constants": file["state"].get("constants")} if is_stage1 else {}
    about = {name: value for name, value in file.items() if name not in ("state", "journal")}
    return _checked(path, about | constants | {"format": FORMAT, "version": VERSION, "model": weights})


def _checked(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """The content of a checkpoint; raises InputError if it is damaged or too new."""
    if not isinstance(content.get("version"), int) or content["version"] > VERSION:
        raise InputError(f"{path} was written by a newer lshfm ({content.get('lshfm')}): upgrade to read it")
    wanted: dict[str, type] = {"model": dict, "classes": list, "network": dict, "dataset": dict, "config": dict}
    wanted |= {"size": int, "mean": list, "std": list}
    if content.get("command") == "mimic":
        wanted |= {"stage": str, "loss": str, "teacher": dict, "identity": dict}
    wrong = [name for name, kind in wanted.items() if not isinstance(content.get(name), kind)]
    wrong += [name for name in ("network", "dataset") if name not in wrong and not is_choice(content[name])]
    wrong += [f"config.{name}" for name in AS_TRAINED if "config" not in wrong and name not in content["config"]]
    wrong = wrong or [*_wrong_parts(content)]
    if wrong:
        raise InputError(f"{path} is damaged: {', '.join(wrong)} missing or of the wrong kind")
    return content


def _wrong_parts(content: Mapping[str, Any]) -> Iterator[str]:
    """Names of entries whose contents are of the wrong type; code that uses a checkpoint need not check them again."""
    kinds: dict[str, tuple[Any, type]] = {"dataset name": (content["dataset"]["values"].get("name"), str)}
    if content.get("command") == "mimic" and content["stage"] == "1":  # by these a stage 2 finds its stage 1
        kinds |= {f"teacher.{name}": (content["teacher"].get(name), str) for name in ("identity", "checkpoint")}
        kinds["identity"] = content["identity"].get("data.train"), str
        kinds["config.seed"] = content["config"].get("seed"), int
    yield from (name for name, (value, kind) in kinds.items() if not isinstance(value, kind))
    for name, kind in {"classes": str, "mean": int | float, "std": int | float}.items():
        if not all(isinstance(value, kind) for value in content[name]):
            yield name
    ids = content.get("category_ids", [0] * len(content["classes"]))
    if not (isinstance(ids, list) and len(ids) == len(content["classes"]) and all(type(i) in (int, str) for i in ids)):
        yield "category_ids"
    weights = content["model"].items()
    if not all(isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in weights):
        yield "model"
    yield from (str(name) for name, part in content.items() if name not in HOLD_TENSORS and not is_plain(part))
    if not _are_hash_functions(content.get("constants") or {}):
        yield "constants"


def is_plain(value: Any) -> bool:
    """Whether a value is made of JSON's types alone, so that it can be compared, shown and stored."""
    if isinstance(value, dict):
        return all(isinstance(name, str) and is_plain(item) for name, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    return value is None or isinstance(value, str | bool | int | float)


def _are_hash_functions(constants: Any) -> bool:
    """Whether `constants` is empty or the state of hash functions that a stage 1 saves."""
    if not isinstance(constants, dict):
        return False
    bias = constants.get("bias")
    fits = isinstance(bias, torch.Tensor) and bias.dtype == torch.float32 and bias.shape == (constants.get("num"),)
    seed = constants.get("seed")
    plain = is_plain({name: value for name, value in constants.items() if name != "bias"})
    return not constants or (fits and plain and isinstance(seed, int) and 0 <= seed < 2**31 and "sha256" in constants)


def is_choice(node: Mapping[str, Any]) -> bool:
    """Whether a node is an option's plain name, which cannot lead out of conf/, and values without interpolations."""
    option = node.get("option")
    plain = isinstance(option, str) and re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)*", option)
    return bool(plain) and isinstance(node.get("values"), dict) and "${" not in str(node["values"])
