"""Finished checkpoints: a network's weights with all that is needed to build, evaluate and mimic it.

Files of the published code and bare weights are read too, as far as they say what they are.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lshfm.config.catalogue import network_of, option_node
from lshfm.config.changes import flatten
from lshfm.config.groups import Dataset, Network
from lshfm.config.keys import without_code
from lshfm.console import logger
from lshfm.errors import InputError
from lshfm.models.weights import published_network
from lshfm.runs.layout import AS_TRAINED, about_run, content_of, unpack
from lshfm.tasks.task import Task

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])  # what the published code normalises by


@dataclass(frozen=True)
class Checkpoint:
    """A file with a network's weights, and what it says of them.

    content: that of a checkpoint of lshfm, checked; None for any other file. settings: those of its network, where
    the file names it, as checkpoints of lshfm and of the published code do. run: in words, which state of a run it is.
    """

    path: Path
    content: Mapping[str, Any] | None
    settings: Network | None
    folders: tuple[Path, ...] = field(default=(), repr=False)  # of --config-dir, with networks of the user's own
    run: str | None = None

    @classmethod
    def open(cls, path: Path, folders: Sequence[Path] = ()) -> "Checkpoint":
        """Read a file whole. Raises InputError if it is damaged, too new, or no checkpoint."""
        content, run = content_of(path), about_run(path)
        if content is not None:
            return replace(cls.of(path, content, folders), run=run)
        known = published_network(path)
        return cls(path, None, network_of(*known, folders) if known else None, tuple(folders), run)

    @classmethod
    def of(cls, path: Path, content: Mapping[str, Any], folders: Sequence[Path] = ()) -> "Checkpoint":
        """The checkpoint at a path whose content `unpack` has read."""
        node = content["network"]
        return cls(path, content, network_of(node["option"], without_code(node["values"]), folders), tuple(folders))

    @property
    def title(self) -> str:
        """The network with its pooling, or the file's name."""
        return self.settings.title if self.settings else self.path.stem

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The classes, in the order of the outputs; None where the file does not tell."""
        return None if self.content is None else tuple(self.content["classes"])

    @property
    def normalisation(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of its pixels in [0, 1], a number a channel."""
        return IMAGENET if self.content is None else (self.content["mean"], self.content["std"])

    def normalisation_on(self, dataset: Dataset) -> tuple[list[float], list[float]]:
        """The same; of a file that does not tell, as the data set's option has it, whatever is typed for a student.

        That is what networks for it are published with: CIFAR's own numbers, for instance.
        """
        if self.content is not None or dataset.option is None:
            return self.normalisation
        node = option_node("dataset", dataset.option, self.folders)
        return (node["mean"], node["std"]) if isinstance(node.get("mean"), list) else self.normalisation

    @property
    def is_stage1(self) -> bool:
        """Whether stage 1 of mimicking wrote it, so that its classifier is untrained."""
        return self.content is not None and is_stage1(self.content)

    @property
    def saw_only_its_data(self) -> bool:
        """Whether the network started from random weights."""
        if self.content is None or (self.settings and self.settings.starts_itself):
            return False
        return bool(self.content["network"]["values"].get("weights", "none") == "none")

    @property
    def label_loss(self) -> tuple[str, Mapping[str, Any]] | None:
        """The option of the group label_loss that it was trained with, and its values; None where it does not tell."""
        content = self.content or {}
        key = "label_loss" if content.get("command") == "mimic" else "loss"
        values = content.get("config", {}).get(key)
        if not isinstance(values, dict):
            return None
        option = (content.get("identity") or {}).get(key) or values.get("name")
        counted = content.get("label_loss_counted") or {}
        return (option, without_code(values | counted)) if isinstance(option, str) else None

    @property
    def data(self) -> str | None:
        """The fingerprint of the split that it was trained on, where the file tells."""
        return ((self.content or {}).get("identity") or {}).get("data.train")

    @property
    def starting_weights(self) -> str | None:
        """Where training started from, in words, where the file tells."""
        words = (self.content or {}).get("starting_weights")
        return words if isinstance(words, str) else None

    def network(
        self, task: Task, classes: Sequence[str], size: int, *, cannot: str, built_as: Network | None = None,
        at: str = "model",
    ) -> nn.Module:  # fmt: skip
        """The network with all of its weights.

        cannot: the message's words for a file that lacks a part of the network. built_as: the network's settings,
        where they are not the file's own. at: the group that messages name. Raises InputError for weights of another
        network.
        """
        settings = built_as or self.settings
        if settings is None:
            raise InputError(f"{self.path} does not say which network it holds")
        if self.content is not None:
            network, _ = task.network(settings.with_weights("none"), classes, size, at=at)
            fill(network, self.content["model"], self.path)
            if self.run:
                logger.info("taken: the network in %s, %s", self.path, self.run)
            return network
        network, loaded = task.network(settings.with_weights(str(self.path)), classes, size, at=at)
        if loaded and loaded.missing:
            raise InputError(f"{self.path} {cannot}: {loaded.describe()}")
        if loaded:
            logger.info(loaded.describe())
        return network

    def class_mismatch(self, classes: Sequence[str], dataset: str) -> str | None:
        """A clause on how its classes differ from a data set's; None where they are the same or it does not tell."""
        if self.classes is None or self.classes == tuple(classes):
            return None
        pairs = zip(self.classes, classes, strict=False)
        theirs, ours = next(((a, b) for a, b in pairs if a != b), ("the end", "the end"))
        return (
            f"trained on {len(self.classes)} classes, {dataset} has {len(classes)}; "
            f"the first that differs: {theirs} there, {ours} here"
        )

    def saved(self, *, without: Container[str] = ()) -> dict[str, Any]:
        """Its settings of network, data set and evaluation, as dotted keys with values.

        without: groups to leave out, "dataset" or "model", as the user names another option; size, mean and std stay.
        dataset.cache_dir is left out always: the folder of stores is this machine's.
        """
        if self.content is None:
            return (
                {} if self.settings is None or "model" in without else flatten({"model": self.settings.without_code()})
            )
        content = self.content
        saved = {name: content["config"][name] for name in AS_TRAINED}
        saved |= {f"dataset.{name}": content[name] for name in ("size", "mean", "std")}
        for group, key in (("model", "network"), ("dataset", "dataset")):
            if group not in without:
                saved |= flatten({group: without_code(content[key]["values"])})
        saved.pop("dataset.cache_dir", None)
        if "dataset" not in without:
            saved.setdefault("dataset.exif", False)  # versions without that key turned no picture
        return saved

    @property
    def options(self) -> dict[str, str]:
        """The options of the groups dataset and model that it names."""
        if self.content is not None:
            return {"dataset": self.content["dataset"]["option"], "model": self.content["network"]["option"]}
        return {"model": self.settings.option} if self.settings else {}


def is_stage1(content: Mapping[str, Any]) -> bool:
    """Whether stage 1 of mimicking wrote a checkpoint, by its content."""
    return content.get("command") == "mimic" and content.get("stage") == "1"


def same_network(content: Mapping[str, Any], option: str | None, design: Mapping[str, Any]) -> bool:
    """Whether a checkpoint's network is of this option with these arguments (Network.design), whatever its weights.

    What changes nothing of the network but what it keeps of its outputs, and how it is trained, does not count.
    """
    aside = {"name", "weights", "path", "init", "per_class", "proposals"}
    values = {name: value for name, value in content["network"]["values"].items() if value is not None}
    theirs, ours = ({k: v for k, v in each.items() if k not in aside} for each in (values, design))
    return bool(content["network"]["option"] == option and theirs == ours)


def checkpoints(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """All finished checkpoints of lshfm in a folder, by name; those that cannot be read are left out with a warning.

    Checksums are not verified: that would take reading every file whole.
    """
    readable = []
    for path in sorted(folder.glob("*.ckpt")):
        try:
            readable.append((path, unpack(path, whole=False)))
        except InputError as error:
            logger.warning("left aside: %s", error)
    return readable


def fill(network: nn.Module, weights: Mapping[str, torch.Tensor], path: Path) -> None:
    """Fill `network` completely with a file's weights. Raises InputError naming the first tensors that do not fit."""
    expected = network.state_dict()
    mismatches = sorted(weights.keys() ^ expected.keys())
    mismatches += [n for n in expected if n in weights and not _fits(weights[n], expected[n])]
    if mismatches:
        raise InputError(
            f"{path}: the weights are not those of its network; first mismatches: {', '.join(mismatches[:5])}"
        )
    network.load_state_dict(dict(weights))


def _fits(tensor: torch.Tensor, target: torch.Tensor) -> bool:
    """Whether two tensors agree in shape and in kind of number: floating point, complex, or neither."""
    same_kind = tensor.is_floating_point() == target.is_floating_point() and tensor.is_complex() == target.is_complex()
    return tensor.shape == target.shape and same_kind
