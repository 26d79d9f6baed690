"""The groups of conf/ (dataset, model, teacher, losses, stage) as dataclasses: the keys that their options share."""

from dataclasses import dataclass, field, replace
from typing import Any, Self

from lshfm.config.keys import Group, key, part, unlisted

POOLINGS = ("GAP", "GMP", "GWP")


def without_pooling(option: str) -> str:
    """The option of `model` that an option of `teacher` is made from: resnet101 for resnet101_GMP."""
    return option.rpartition("_")[0] if option.endswith(tuple(f"_{pool}" for pool in POOLINGS)) else option


@dataclass(frozen=True)
class Pictures:
    """Keys of data sets for detection, whose pictures keep their shape; their shorter side gets `size` pixels."""

    train_sizes: list[int] | None = key(
        "pixels of a picture's shorter side in training, one drawn for each picture; without it 11, from 0.6 x size to "
        "size", low=32, high=8192,
    )  # fmt: skip
    skip_empty: bool = key(
        "leave pictures without an object, crowds being some, out of training; false: they are background"
    )


@dataclass(frozen=True)
class Dataset(Group):
    """A data set: the keys that all have; `own` holds the others."""

    name: str = key("what the data set is called in names of runs")
    train_split: str = key("split to train on")
    eval_split: str = key("split to evaluate on; none: what holdout keeps")
    size: int = key("images are resized to size x size pixels", low=1, high=8192)
    task: str = key("what is learnt: an option of the group task")
    metric: str = key("which metric leads, of those that the task has")
    devkit: bool = key("eval also writes VOC devkit result files", changes_results=False)
    holdout: float = key("share of the training split kept for validation", low=0, below=1, example="0.2 is a fifth")
    holdout_by: str = key(
        "how it is chosen: labels (every class on both sides where it has two images) or chance",
        choices=("labels", "chance"),
    )
    skip_broken: bool = key("leave out images that are missing or damaged, and count them")
    cache: str = key(
        "decode once into a memory-mapped store: auto, on, off; device: it is then copied into the GPU's memory, which "
        "auto does where it takes an eighth of what is free at most",
        choices=("auto", "on", "off", "device"),
        changes_results=False,
    )
    cache_dir: str = key("folder of the stores", changes_results=False)
    mean: list[float] = key("mean of the normalisation, RGB in [0, 1]", low=0, high=1)
    std: list[float] = key("standard deviation of the normalisation", above=0, high=1)
    preset: dict[str, Any] = key("defaults of the keys above, as published for this data set")
    pictures: Pictures | None = part()
    # A network's classes, where it is evaluated: they are the data set's, unless that says otherwise.
    known_classes: tuple[str, ...] | None = field(default=None, metadata={"is_inner": True})

    @property
    def default_label_loss(self) -> str:
        """The option of label_loss where nobody chooses one."""
        of_task = (self.preset.get("of_task") or {}).get(self.task) or {}
        return str(self.preset.get("label_loss") or of_task.get("label_loss") or "bce")


@dataclass(frozen=True)
class Network(Group):
    """A network, of the groups model, teacher and student."""

    name: str | None = unlisted()
    weights: str | None = unlisted()

    @property
    def pool(self) -> str | None:
        """Its pooling, one of POOLINGS; None for a network without that key."""
        return self.own.get("pool")

    @property
    def title(self) -> str:
        """Its name, with its pooling unless that is GAP: resnet101_GMP."""
        name = str(self.name or without_pooling(str(self.option)))
        return name if self.pool in (None, "GAP") else f"{name}_{self.pool}"

    @property
    def design(self) -> dict[str, Any]:
        """The arguments it is built with; neither its weights nor its name are among them."""
        return {name: value for name, value in self.own.items() if name != "_target_" and value is not None}

    @property
    def fetches(self) -> bool:
        """Whether its library fetches ImageNet's weights itself, as `weights` says: timm's, by the key `pretrained`.

        In a class of the user's own that key is as good as any other.
        """
        return "pretrained" in self.own and str(self.target).startswith("lshfm.")

    @property
    def starts_itself(self) -> bool:
        """Whether a class of the user's own was told, by its key `pretrained`, to give itself weights."""
        return bool(self.own.get("pretrained")) and not self.fetches

    def with_weights(self, weights: str) -> Self:
        """The same network with other starting weights."""
        return replace(self, weights=weights)


@dataclass(frozen=True)
class Teacher(Network):
    """The network to mimic, or where its checkpoint lies."""

    path: str | None = unlisted()


@dataclass(frozen=True)
class Student(Network):
    """The network that mimics, with keys beside its network's own."""

    projection: Any = key(
        "a linear layer to the teacher's feature width: auto (= true), true, false, needed (if another)"
    )
    init: str | None = key("where stage 2 starts: a checkpoint, imagenet or none; without it at a stage 1")

    @property
    def design(self) -> dict[str, Any]:
        """The arguments it is built with, the projection's width included."""
        return super().design | ({} if self.projection is None else {"projection": self.projection})


@dataclass(frozen=True)
class LabelLoss(Group):
    """A loss on labels."""

    name: str | None = unlisted()


@dataclass(frozen=True)
class Hashing:
    """Keys of a loss on hash functions."""

    hash_num: int | None = key("number of hash functions; without it 32 x the feature's width", low=1)
    std: float | None = key("deviation of their weights; without it the teacher's classifier's", above=0)
    bias: str = key("their bias, by the features of the training set", choices=("median", "mean", "zero"))
    bias_views: str = key("training images as the bias sees them", choices=("plain", "augmented"))
    form: str = key("how hashes are compared: their bits (bce) or their values", choices=("bce", "l1", "l2"))


@dataclass(frozen=True)
class Temperature:
    """Key of a loss on logits."""

    temperature: float = key("what logits are divided by", above=0)


@dataclass(frozen=True)
class OfBoxes:
    """Keys of mimicking losses that detectors have."""

    positions: str = key(
        "of detectors: features of all places are mimicked, or of those that see an object", choices=("all", "matched")
    )
    beta_warmup: float = key("of detectors: epochs over which beta rises from 0", low=0)


@dataclass(frozen=True)
class ChosenLoss:
    """One of mimic's losses: a weighted sum of terms, each a node to build."""

    kind: str  # what it compares: feature, logit; correct, labelled, relation, map, as objectives.mimic has them
    weight: Any  # a number, once checked
    terms: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class MimicLoss(Group):
    """The mimicking losses that were chosen, with keys beside their own."""

    name: str | None = unlisted()
    beta: float = key("weight of the mimicking losses", low=0)
    gamma: float = key("weight of the label loss", low=0)
    alpha: float = key("weight of the softmax KL of the logits, beside the chosen losses", low=0)
    hashing: Hashing | None = part()
    temperature: Temperature | None = part()
    of_boxes: OfBoxes | None = part()

    @property
    def chosen(self) -> dict[str, ChosenLoss]:
        """The losses by option."""
        nodes = {name: node for name, node in self.own.items() if isinstance(node, dict) and "kind" in node}
        return {name: ChosenLoss(node["kind"], node.get("weight"), node["terms"]) for name, node in nodes.items()}


@dataclass(frozen=True)
class Stage(Group):
    """A stage: 1, 2 or both."""

    name: str | None = unlisted()
