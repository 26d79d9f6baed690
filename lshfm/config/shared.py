"""Keys that commands share: of the machine, and those that have keys of their own."""

from dataclasses import dataclass
from typing import Any

from lshfm.config.keys import key


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Schedule:
    """The learning rate over t, the epochs done including fractions."""

    cosine_epochs: float = key("length of the cosine, at least `epochs`; 0 turns it off", low=0)
    steps: list[float] = key("epochs from which the learning rate is a tenth of what it was", low=0)
    warmup: float = key("epochs of linear warm-up", low=0)
    warmup_steps: int = key("where warmup is 0: steps of it, less than an epoch's; 0 turns it off", low=0)
    initial_lr: float = key("learning rate at the start of the warm-up", low=0)
    policy: str = key(
        "cosine (warm-up x cosine x steps) or onecycle (up to lr over 0.3 of the run, then down to none); "
        "schedule=onecycle says the same",
        choices=("cosine", "onecycle"),
    )


@dataclass(frozen=True)
class Augmentation:
    """What training images go through: padding and cropping, the flip, the colour jitter."""

    flip: float = key("probability of a horizontal flip", low=0, high=1)
    brightness: float = key("strength x: factor drawn from [1-x, 1+x]", low=0, high=1)
    contrast: float = key("strength, likewise", low=0, high=1)
    saturation: float = key("strength, likewise", low=0, high=1)
    area: list[float] | None = key(
        "random resized crop: smallest and largest share of a picture's area, as [0.08,1]; of pictures in a store, or "
        "decoded in every epoch, as dataset.cache says", above=0, high=1,
    )  # fmt: skip
    short_side: int | None = key(
        "with area: pictures are shrunk to a short side of so many pixels before they are cropped; without it they are "
        "cropped as they are", low=8, high=8192,
    )  # fmt: skip
    randaugment: int = key("operations of RandAugment on each image; 0: none", low=0, high=100)
    magnitude: int = key("of RandAugment's operations", low=0, high=30)
    mixup: float = key("a of Beta(a, a), the shares of two mixed pictures; 0: none", low=0)
    cutmix: float = key("a of Beta(a, a), the share that a rectangle of another picture leaves; 0: none", low=0)
    pad: int = key("pixels of black border that an image is cropped back from, anywhere; 0: none", low=0, high=512)


@dataclass(frozen=True)
class Tuning:
    """Whether to choose a threshold for each class, and what for; typed as thresholds=tune."""

    tune: bool = key("thresholds=tune chooses one for each class on held-out images", changes_results=False)
    goal: str = key("f1, the best F1; or the best with precision:0.9 or recall:0.9", changes_results=False)
