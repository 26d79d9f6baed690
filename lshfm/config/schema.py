"""The keys of every command, as the classes that commands receive. conf/ holds the values."""

from dataclasses import dataclass
from typing import Any, ClassVar

from lshfm.config.groups import Dataset, LabelLoss, MimicLoss, Network, Stage, Student, Teacher
from lshfm.config.keys import group, key
from lshfm.config.shared import Augmentation, Machine, Schedule, Tuning

FORMATS = ("onnx", "pt2", "safetensors", "torchvision", "timm", "published")  # of an export
TRACKERS = ("csv", "tensorboard", "wandb", "mlflow")


@dataclass(frozen=True)
class Training(Machine):
    """Keys of every command that trains."""

    epochs: int = key("passes over the training split", low=1, high=1_000_000)
    batch_size: int = key("images a step, over all GPUs", low=1)
    eval_batch_size: int = key("images a batch in evaluation", low=1, changes_results=False)
    eval_every: int = key("epochs between evaluations; the last epoch is always evaluated", low=1)
    drop_last: bool = key("leave the images out that fill no batch at an epoch's end")
    accumulate: int = key("parts a batch goes through the network in, to save memory", low=1)
    balanced: bool = key("draw images so that each class is as likely, those without labels as one more class")
    early_stop: int | None = key(
        "epochs without a better score on the held-out images (dataset.holdout) after which a run ends", low=1
    )
    optimizer: str = key("sgd, adam or adamw", choices=("sgd", "adam", "adamw"))
    lr: float = key("learning rate", above=0)
    head_lr: float = key("factor of lr for the layers behind the backbone: classifier and projection", above=0)
    momentum: float = key("momentum of SGD (Adam and AdamW: beta 1)", low=0, below=1)
    weight_decay: float = key("weight decay, on all parameters", low=0)
    decay_weights_only: bool = key("no weight decay on biases and on BatchNorm's weights")
    clip_grad: float | None = key("largest norm of all gradients together; longer ones are scaled down", above=0)
    schedule: Schedule = key("learning rate over the epochs")
    average: int = key("last epochs whose weights' mean is evaluated and kept beside the last; 0: none", low=0)
    average_bn: str = key(
        "BatchNorm statistics of that mean: mean of the epochs' (as published), or anew from the training images",
        choices=("mean", "anew"),
    )
    ema: float = key("decay of the weights' moving average, say 0.9997; 0 turns it off", low=0, below=1)
    freeze: list[str] = key(
        "what does not learn: bn_stats, bn_affine, backbone (only the classifier learns)",
        choices=("bn_stats", "bn_affine", "backbone"),
    )
    freeze_epochs: int = key(
        "first epochs in which only classifier and projection learn, the backbone's BatchNorm as in evaluation", low=0
    )
    bn_group_size: int | None = key("images that BatchNorm takes its statistics over; without it a rank's own", low=1)
    sync_bn: bool = key("BatchNorm takes its statistics over the images of all ranks")
    augment: Augmentation = key("augmentation")
    speed: str = key(
        "fast: what is fastest here, say bf16, compiled, as one CUDA graph; exact: as the other keys say, to the bit",
        choices=("exact", "fast"),
    )
    precision: str = key(
        "fp32 or bf16 (losses are always fp32); auto, as with speed=fast: bf16 where it is faster",
        choices=("fp32", "bf16", "auto"),
    )
    channels_last: bool = key("memory order of images and weights: true is faster on most hardware")
    deterministic: bool = key("only algorithms that give the same bits every time")
    select: str = key("weights a finished run leaves: last or best epoch", choices=("last", "best"))
    allow_test: bool = key("let select=best look at the test split", changes_results=False)
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
    take_over: bool = key(
        "go on from a run that differs in its number of epochs alone; false: jobs of a sweep over epochs",
        changes_results=False,
    )
    track: Any = key(
        "who else follows the run: one of csv, tensorboard, wandb, mlflow, or a list of them", choices=TRACKERS,
        changes_results=False,
    )  # fmt: skip
    recipe: Any = key("what a recipe says of itself", changes_results=False)
    dataset: Dataset = group()

    @property
    def trackers(self) -> tuple[str, ...]:
        """What `track` names, each once."""
        named = self.track if isinstance(self.track, list) else [self.track]
        return tuple(dict.fromkeys(name for name in named if name is not None))


@dataclass(frozen=True)
class Train(Training):
    """lshfm train."""

    command: ClassVar = "train"

    model: Network = group()
    loss: LabelLoss = group()


@dataclass(frozen=True)
class Mimic(Training):
    """lshfm mimic."""

    command: ClassVar = "mimic"

    stage: Stage = group(changes_results=False)
    teacher: Teacher = group()
    student: Student = group()
    loss: MimicLoss = group()
    label_loss: LabelLoss = group()
    teacher_tape: str = key(
        "record the teacher's outputs on every training view in dataset.cache_dir, or replay them from there",
        choices=("off", "record", "replay"),
        changes_results=False,
    )
    published: dict[str, Any] = key("what a recipe says of a stage and a loss", changes_results=False)
    stage1: Any = key("keys for stage 1 alone, as stage1.lr=0.1", changes_results=False)
    stage2: Any = key("keys for stage 2 alone", changes_results=False)

    @property
    def is_stage1(self) -> bool:
        """Whether this is stage 1, where the student's projection alone learns."""
        return self.stage.name == "1"

    @property
    def published_row(self) -> dict[str, Any]:
        """What the recipe says of this stage and loss; empty without a recipe."""
        table = self.published.get(str(self.stage.name)) or {}
        return dict(table.get(self.loss.name) or {})


@dataclass(frozen=True)
class Eval(Machine):
    """lshfm eval."""

    command: ClassVar = "eval"

    checkpoint: str = key("the checkpoint to evaluate")
    eval_batch_size: int = key(
        "images a batch; without it as in training, else as suits the data set", low=1, changes_results=False
    )
    threshold: float | None = key(
        "probability from which a label counts as predicted in precision, recall and F1; without it 0.5",
        above=0, below=1,
    )  # fmt: skip
    precision: str | None = key(
        "fp32, bf16, or auto: bf16 where it is faster; without it as in training", choices=("fp32", "bf16", "auto")
    )
    channels_last: bool | None = key("memory order; without it as in training")
    deterministic: bool = key("only algorithms that give the same bits every time")
    thresholds: Tuning = key("thresholds", changes_results=False)
    calibration: str = key(
        "temperature: fit one to the held-out images", choices=("none", "temperature"), changes_results=False
    )
    allow_test: bool = key("let thresholds=tune and calibration look at the test split", changes_results=False)
    dataset: Dataset = group()
    model: Network = group()
    teacher: Teacher = group()


@dataclass(frozen=True)
class Check:
    """lshfm check."""

    command: ClassVar = "check"

    workers: int | None = key("processes that decode images; without it one a core", low=0, high=256)
    format: str = key("table for people, json for programs", choices=("table", "json"))
    dataset: Dataset = group()


@dataclass(frozen=True)
class Predict:
    """lshfm predict."""

    command: ClassVar = "predict"

    checkpoint: str = key("the network: a checkpoint's file or name, a .safetensors or an .onnx file")
    input: str = key("pictures: a file, a folder with those in it, a glob in quotes, or a .txt list of files")
    threshold: float | None = key(
        "probability or score from which a class is predicted; without it those chosen for each class, else 0.5",
        low=0,
        high=1,
    )
    top: int | None = key("at most so many labels or objects a picture; without threshold= the likeliest", low=1)
    batch_size: int = key("pictures a batch", low=1)
    format: str = key(
        "file of the predictions: jsonl or csv; auto: jsonl, and none for a few pictures",
        choices=("auto", "jsonl", "csv"),
    )
    features: bool = key("also write features.npy (n, D), and ids.npy with the files' names")
    pictures: bool = key("also write copies of the pictures with their labels, or boxes")
    sheet: bool = key("also write sheet.jpg, small copies of the first pictures with their labels, or boxes")
    devkit: bool = key("of detectors: also write the VOC devkit's files, one a class")
    coco_ids: str | None = key("of detectors: a file in COCO's format with the pictures' ids for detections.json")
    speed: str = key("fast: bf16 on a GPU, which changes the last digits; exact: fp32", choices=("exact", "fast"))
    gpus: Any = key("the CUDA device, as [0], or [] for the CPU; without it the first GPU if there is one", high=1024)
    workers: int | None = key("processes that decode pictures; without it one a core", low=0, high=256)
    output_dir: str = key("folder of the results, in predict/NAME")
    checkpoint_dir: str = key("folder of finished checkpoints")
    name: str | None = key("name of the results; without it made from the names of network and input")
    overwrite: bool = key("start anew where other predictions are in the way")


@dataclass(frozen=True)
class Export:
    """lshfm export."""

    command: ClassVar = "export"

    checkpoint: str = key("the network: a checkpoint's file or name")
    format: str = key(
        "onnx, pt2 (torch.export), safetensors; or a state dict as torchvision, timm or the published code have it",
        choices=FORMATS,
    )
    file: str | None = key("the file to write; without it exports/NAME with the format's ending")
    precision: str = key(
        "of the weights; int8 (onnx alone) is calibrated on training images", choices=("fp32", "fp16", "bf16", "int8")
    )
    feature: bool = key("keep the projection, and give the feature as a second output; without, it is folded in")
    uint8: bool = key("onnx, pt2: take uint8 images (B, S, S, 3), give probabilities")
    opset: int = key("of ONNX", low=18, high=25)
    images: str | None = key("pictures to check the export on, as predict's input; without it the evaluation split")
    check_images: int | None = key("at most so many of them; null: all", low=1)
    tolerance: float | None = key(
        "largest difference that is let pass, as a share of the largest logit; without it by the precision", above=0
    )
    calibration_images: int = key("training images that int8 is calibrated on", low=1)
    max_drop: float = key("by how much int8 may lower the score, in percent points", low=0)
    bench: bool = key("measure images a second on the CPU, before and after")
    licence: str | None = key("a note for the file and its card")
    workers: int | None = key("processes that decode images; without it one a core", low=0, high=256)
    checkpoint_dir: str = key("folder of finished checkpoints")
    overwrite: bool = key("replace a file that is there")
    dataset: Dataset = group()
    model: Network = group()


Settings = Train | Mimic | Eval | Check | Predict | Export
COMMANDS: dict[str, type[Train] | type[Mimic] | type[Eval] | type[Check] | type[Predict] | type[Export]] = {
    keys.command: keys for keys in (Train, Mimic, Eval, Check, Predict, Export)
}
