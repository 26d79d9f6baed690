"""The keys of every command: type, range and a line of help each. conf/ holds the values."""

from dataclasses import dataclass, field
from typing import Any


def key(
    text: str,
    *,
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
    below: float | None = None,
    choices: tuple[str, ...] = (),
    changes_results: bool = True,
) -> Any:
    """A config key: `low`/`high` bound it inclusively, `above`/`below` exclusively.

    changes_results: False for keys that leave every number as it is; these neither enter a run's name nor
    stop a run from being continued.
    """
    limits = {"low": low, "above": above, "high": high, "below": below, "choices": choices}
    return field(default="???", metadata={"text": text, "changes_results": changes_results, **limits})


A_GROUP = "see the group"
SOME_OF_A_GROUP = "see the group; a list of options too"


@dataclass
class Machine:
    """Keys of every command that runs a network."""

    gpus: Any = key(
        "CUDA devices: a list as [0,1], a number n > 0 for the first n, [] for the CPU; "
        "without it the first GPU if there is one",
        high=1024,
        changes_results=False,
    )
    ranks: int | None = key(
        "processes that share the work on a CPU (gpus=[]); on GPUs there is one each",
        low=1, high=1024, changes_results=False,
    )  # fmt: skip
    workers: int | None = key(
        "processes a rank that decode images; without it one a core", low=0, high=256, changes_results=False
    )
    output_dir: str = key("folder of the run folders", changes_results=False)
    checkpoint_dir: str = key("folder of finished checkpoints", changes_results=False)
    name: str | None = key("name of the run; without it made from the settings", changes_results=False)


@dataclass
class Schedule:
    """Learning rate at t = epochs done, with fractions: warm-up x cosine x steps."""

    cosine_epochs: float = key("length of the cosine, at least `epochs`; 0 turns it off", low=0)
    steps: list[float] = key("epochs from which the learning rate is a tenth of what it was", low=0)
    warmup: float = key("epochs of linear warm-up", low=0)
    initial_lr: float = key("learning rate at the start of the warm-up", low=0)


@dataclass
class Augmentation:
    """What training images go through: the flip first, then the colour jitter."""

    flip: float = key("probability of a horizontal flip", low=0, high=1)
    brightness: float = key("strength x: factor drawn from [1-x, 1+x]", low=0, high=1)
    contrast: float = key("strength, likewise", low=0, high=1)
    saturation: float = key("strength, likewise", low=0, high=1)


@dataclass
class Dataset:
    """Keys that every data set has; the others are its own."""

    name: str = key("what the data set is called in names of runs")
    train_split: str = key("split to train on")
    eval_split: str = key("split to evaluate on")
    size: int = key("images are resized to size x size pixels", low=1, high=8192)
    metric: str = key("which mAP leads", choices=("voc2010", "voc2007", "uninterpolated"))
    devkit: bool = key("eval also writes VOC devkit result files", changes_results=False)
    holdout: float = key("share of the training split kept for validation", low=0, below=1)
    skip_broken: bool = key("leave out images that are missing or damaged, and count them")
    cache: str = key(
        "decode once into a memory-mapped store: auto, on, off",
        choices=("auto", "on", "off"),
        changes_results=False,
    )
    cache_dir: str = key("folder of the stores", changes_results=False)
    mean: list[float] = key("mean of the normalisation, RGB in [0, 1]", low=0, high=1)
    std: list[float] = key("standard deviation of the normalisation", above=0, high=1)
    preset: dict[str, Any] = key("defaults of the keys above, as published for this data set")


@dataclass
class Training(Machine):
    """Keys of every command that trains."""

    epochs: int = key("passes over the training split", low=1, high=1_000_000)
    batch_size: int = key("images a step, over all GPUs", low=1)
    eval_batch_size: int = key("images a batch in evaluation", low=1)
    accumulate: int = key("parts a batch goes through the network in, to save memory", low=1)
    optimizer: str = key("sgd or adamw", choices=("sgd", "adamw"))
    lr: float = key("learning rate", above=0)
    momentum: float = key("momentum of SGD (AdamW: beta 1)", low=0, below=1)
    weight_decay: float = key("weight decay, on all parameters", low=0)
    schedule: Schedule = key("learning rate over the epochs")
    ema: float = key("decay of the weights' moving average, say 0.9997; 0 turns it off", low=0, below=1)
    freeze: list[str] = key(
        "what does not learn: bn_stats, bn_affine, backbone (only the classifier learns)",
        choices=("bn_stats", "bn_affine", "backbone"),
    )
    bn_group_size: int | None = key("images that BatchNorm takes its statistics over; without it a rank's own", low=1)
    sync_bn: bool = key("BatchNorm takes its statistics over the images of all ranks")
    augment: Augmentation = key("augmentation")
    precision: str = key("fp32 or bf16 (losses are always fp32)", choices=("fp32", "bf16"))
    channels_last: bool = key("memory order of images and weights: true is faster on most hardware")
    deterministic: bool = key("only algorithms that give the same bits every time")
    select: str = key("weights a finished run leaves: last or best epoch", choices=("last", "best"))
    allow_test: bool = key("let select=best look at the test split")
    seed: int = key("seed of everything random", low=0, high=2**31 - 1)
    log_every: int = key("steps between log lines", low=1, changes_results=False)
    checkpoint_minutes: float = key(
        "minutes between checkpoints within an epoch; 0: only after epochs", low=0, changes_results=False
    )
    keep_last: int = key(
        "checkpoints of an unfinished run to keep, should the last one get damaged",
        low=1,
        high=1000,
        changes_results=False,
    )
    overwrite: bool = key("start anew where a finished or different run is in the way", changes_results=False)
    recipe: Any = key("what a recipe says of itself", changes_results=False)
    dataset: Any = key(A_GROUP)


@dataclass
class Train(Training):
    """lshfm train."""

    model: Any = key(A_GROUP)
    loss: Any = key(A_GROUP)


@dataclass
class Mimic(Training):
    """lshfm mimic."""

    stage: Any = key(A_GROUP, changes_results=False)
    teacher: Any = key(A_GROUP)
    student: Any = key(A_GROUP)
    loss: Any = key(SOME_OF_A_GROUP)
    label_loss: Any = key(A_GROUP)
    published: dict[str, Any] = key("what a recipe says of a stage and a loss", changes_results=False)
    stage1: Any = key("keys for stage 1 alone, as stage1.lr=0.1", changes_results=False)
    stage2: Any = key("keys for stage 2 alone", changes_results=False)


@dataclass
class Student:
    """Keys of mimic's student beside its network's own."""

    projection: Any = key("a linear layer to the teacher's feature width: auto (= true), true or false")
    init: str | None = key("where stage 2 starts: a checkpoint, imagenet or none; without it at a stage 1")


@dataclass
class MimicLoss:
    """Keys of mimic's loss beside its terms' own."""

    beta: float = key("weight of the mimicking losses", low=0)
    gamma: float = key("weight of the label loss", low=0)


@dataclass
class Hashing:
    """Keys of a loss on hash functions."""

    hash_num: int | None = key("number of hash functions; without it 32 x the feature's width", low=1)
    std: float | None = key("deviation of their weights; without it the teacher's classifier's", above=0)
    bias: str = key("their bias, by the features of the training set", choices=("median", "mean", "zero"))
    bias_views: str = key("training images as the bias sees them", choices=("plain", "augmented"))
    form: str = key("how hashes are compared: their bits (bce) or their values", choices=("bce", "l1", "l2"))


@dataclass
class Temperature:
    """Key of a loss on logits."""

    temperature: float = key("what logits are divided by", above=0)


@dataclass
class Eval(Machine):
    """lshfm eval."""

    checkpoint: str = key("the checkpoint to evaluate")
    eval_batch_size: int | None = key("images a batch; without it as in training", low=1)
    precision: str | None = key("fp32 or bf16; without it as in training", choices=("fp32", "bf16"))
    channels_last: bool | None = key("memory order; without it as in training")
    deterministic: bool = key("only algorithms that give the same bits every time")
    dataset: Any = key(A_GROUP)
    model: Any = key(A_GROUP)
    teacher: Any = key(A_GROUP)


@dataclass
class Check:
    """lshfm check."""

    workers: int | None = key("processes that decode images; without it one a core", low=0, high=256)
    format: str = key("table for people, json for programs", choices=("table", "json"))
    dataset: Any = key(A_GROUP)


COMMANDS: dict[str, type] = {"train": Train, "mimic": Mimic, "eval": Eval, "check": Check}

# Keys whose values are paths, in which ~ stands for a home.
PATHS = frozenset(
    {"checkpoint", "output_dir", "checkpoint_dir", "dataset.root", "dataset.cache_dir"}
    | {"model.weights", "student.weights", "student.init", "teacher.path"}
)

# Where the data lies and what things are called: no influence on any number.
NEUTRAL = frozenset(
    {"dataset.root", "dataset.name", "dataset.annotations", "dataset.images"}
    | {f"{group}.name" for group in ("model", "teacher", "student", "loss", "label_loss")}
)

# The types of keys inside a group's node.
GROUP_KEYS: dict[str, list[tuple[str, type]]] = {
    "train": [("dataset", Dataset)],
    "mimic": [
        ("dataset", Dataset),
        ("student", Student),
        ("loss", MimicLoss),
        ("loss", Hashing),
        ("loss", Temperature),
    ],
    "eval": [("dataset", Dataset)],
    "check": [("dataset", Dataset)],
}

# The kinds of loss a command takes.
KINDS: dict[str, dict[str, tuple[str, ...]]] = {
    "train": {"loss": ("label",)},
    "mimic": {"loss": ("feature", "logit"), "label_loss": ("label",)},
}
