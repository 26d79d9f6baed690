"""The checkpoint of a finished run: weights and all that is needed to build the network again and evaluate it.

Plain values and tensors only. A network and a data set are named by their option in conf/, never by code.
"""

import re
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lshfm import __version__
from lshfm.config.compose import Job, flatten
from lshfm.errors import InputError
from lshfm.files.read import read_checkpoint

FORMAT, VERSION = "lshfm", 1
HOLD_TENSORS = ("model", "constants")  # all else is plain values
AS_TRAINED = ("eval_batch_size", "precision", "channels_last")  # unless eval is told otherwise


def pack(job: Job, role: str, network: nn.Module, classes: Sequence[str], **record: Any) -> dict[str, Any]:
    """What a checkpoint holds; `record` (metrics, epoch, hardware, ...) is kept beside it.

    role: the group that holds the network's settings, model or student.
    """
    weights = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
    dataset = job.values["dataset"]
    return {
        "format": FORMAT,
        "version": VERSION,
        "lshfm": __version__,
        "model": weights,
        "classes": list(classes),
        "size": dataset["size"],
        "mean": dataset["mean"],
        "std": dataset["std"],
        "network": {"option": job.choices[role], "values": without_code(job.values[role])},
        "dataset": {"option": job.choices["dataset"], "values": without_code(dataset)},
        "config": without_code(job.values),
        **record,
    }


def without_code(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values without any `_target_`: a checkpoint never picks code to run."""
    return {
        name: without_code(value) if isinstance(value, Mapping) else value
        for name, value in values.items()
        if name != "_target_"
    }


def unpack(path: Path, *, whole: bool = True) -> dict[str, Any]:
    """Read a checkpoint of ours; `whole` as in read_checkpoint. Raises InputError if it is none or too new."""
    content = read_checkpoint(path, whole=whole)
    if content.get("format") != FORMAT:
        raise InputError(
            f"{path} is no checkpoint of lshfm, so it names neither data set nor network: "
            "add dataset=... and model=... to evaluate it"
        )
    if not isinstance(content.get("version"), int) or content["version"] > VERSION:
        raise InputError(f"{path} was written by a newer lshfm ({content.get('lshfm')}): upgrade to read it")
    wanted: dict[str, type] = {"model": dict, "classes": list, "network": dict, "dataset": dict, "config": dict}
    wanted |= {"size": int, "mean": list, "std": list}
    if content.get("command") == "mimic":
        wanted |= {"stage": str, "loss": str, "teacher": dict, "identity": dict}
    wrong = [name for name, kind in wanted.items() if not isinstance(content.get(name), kind)]
    wrong += [name for name in ("network", "dataset") if name not in wrong and not _is_choice(content[name])]
    wrong += [f"config.{name}" for name in AS_TRAINED if "config" not in wrong and name not in content["config"]]
    wrong = wrong or [*_wrong_parts(content)]
    if wrong:
        raise InputError(f"{path} is damaged: {', '.join(wrong)} missing or of the wrong kind")
    return content


def _wrong_parts(content: Mapping[str, Any]) -> Iterator[str]:
    """Names of what lies in the right containers and is of the wrong kind, so that it can be used without a look."""
    kinds: dict[str, tuple[Any, type]] = {"dataset name": (content["dataset"]["values"].get("name"), str)}
    if content.get("command") == "mimic" and content["stage"] == "1":  # stage 2 looks for those of its own
        kinds |= {f"teacher.{name}": (content["teacher"].get(name), str) for name in ("identity", "checkpoint")}
        kinds["identity"] = content["identity"].get("data.train"), str
        kinds["config.seed"] = content["config"].get("seed"), int
    yield from (name for name, (value, kind) in kinds.items() if not isinstance(value, kind))
    for name, kind in {"classes": str, "mean": int | float, "std": int | float}.items():
        if not all(isinstance(value, kind) for value in content[name]):
            yield name
    weights = content["model"].items()
    if not all(isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in weights):
        yield "model"
    yield from (str(name) for name, part in content.items() if name not in HOLD_TENSORS and not _is_plain(part))
    if not _are_hash_functions(content.get("constants") or {}):
        yield "constants"


def _is_plain(value: Any) -> bool:
    """Whether JSON could hold it, so that it can be compared, shown and handed on."""
    if isinstance(value, dict):
        return all(isinstance(name, str) and _is_plain(item) for name, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | bool | int | float)


def _are_hash_functions(constants: Any) -> bool:
    """What a stage 1 keeps of its hash functions, if it has any."""
    if not isinstance(constants, dict):
        return False
    bias = constants.get("bias")
    fits = isinstance(bias, torch.Tensor) and bias.dtype == torch.float32 and bias.shape == (constants.get("num"),)
    seed = constants.get("seed")
    plain = _is_plain({name: value for name, value in constants.items() if name != "bias"})
    return not constants or (fits and plain and isinstance(seed, int) and 0 <= seed < 2**31 and "sha256" in constants)


def _is_choice(node: Mapping[str, Any]) -> bool:
    """An option by its plain name, which cannot lead out of conf/, and its values, which refer to nothing else."""
    option = node.get("option")
    plain = isinstance(option, str) and re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)*", option)
    return bool(plain) and isinstance(node.get("values"), dict) and "${" not in str(node["values"])


def is_ours(path: Path) -> bool:
    """Whether a file that can be read is a checkpoint of ours."""
    return read_checkpoint(path, whole=False).get("format") == FORMAT


def settings(content: Mapping[str, Any], *, without: Container[str] = ()) -> dict[str, Any]:
    """Dotted keys and values that network and data set came with, and how they were evaluated.

    without: "dataset" or "model", where the user names another; the network's input stays what it was. Where stores
    are written is this machine's to say, and no checkpoint's.
    """
    saved = {name: content["config"][name] for name in AS_TRAINED}
    saved |= {f"dataset.{name}": content[name] for name in ("size", "mean", "std")}
    for group, key in (("model", "network"), ("dataset", "dataset")):
        if group not in without:
            saved |= flatten({group: without_code(content[key]["values"])})
    saved.pop("dataset.cache_dir", None)
    return saved


def class_mismatch(trained: Sequence[str], there: Sequence[str], dataset: str) -> str:
    """A clause on how a checkpoint's classes differ from a data set's."""
    different = next(((a, b) for a, b in zip(trained, there, strict=False) if a != b), ("the end", "the end"))
    return (
        f"trained on {len(trained)} classes, {dataset} has {len(there)}; "
        f"the first that differs: {different[0]} there, {different[1]} here"
    )


def check_weights(path: Path, network: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Fill `network` completely. Raises InputError naming the first tensors that do not fit."""
    own = network.state_dict()
    strange = sorted(weights.keys() ^ own.keys())
    strange += [n for n in own if n in weights and not _fits(weights[n], own[n])]
    if strange:
        raise InputError(
            f"{path}: the weights are not those of its network; first mismatches: {', '.join(strange[:5])}"
        )
    network.load_state_dict(dict(weights))


def _fits(tensor: torch.Tensor, own: torch.Tensor) -> bool:
    """Whether it can be copied there without changing what its numbers mean."""
    same_kind = tensor.is_floating_point() == own.is_floating_point() and tensor.is_complex() == own.is_complex()
    return tensor.shape == own.shape and same_kind
