"""What people type who know other tools: flags, keys and commands of theirs, answered with ours."""

import importlib.util
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from lshfm.config import schema
from lshfm.config.catalogue import group_folder, groups, options
from lshfm.config.check import is_group, key_types
from lshfm.config.keys import key_fields
from lshfm.errors import InputError, nearest, printable

# A key of timm's, ultralytics', Lightning's or the published scripts -> ours, the first one that the command has.
_EPOCHS, _BATCH, _SIZE, _GPUS, _WEIGHTS = (
    ("epochs",),
    ("batch_size", "eval_batch_size"),
    ("dataset.size",),
    ("gpus: gpus=[0] is the first GPU, gpus=[] the CPU",),
    ("checkpoint", "model.weights: imagenet, none or a file", "student.weights: imagenet, none or a file"),
)
_START = ("model.weights=imagenet", "student.weights=imagenet")
_HALF = ("precision=bf16",)
_DATA = ("dataset: dataset=manifest dataset.root=DIR for a folder of your own",)
_NETWORK = ("model", "student: student=..., and teacher=... for the teacher")
_AGAIN = (
    "overwrite: the same command again continues an unfinished run by itself; overwrite=true starts anew",
    "checkpoint",
)
_FOLDER = ("output_dir: the folder of run folders; name= is that of the run", "file")
_SETTINGS = ("settings: settings=FILE takes the config.yaml of a run folder",)
_NONE = "nothing to set"
_CUT = ("threshold", f"{_NONE}: eval reports precision and recall at 0.5, or at its threshold=")
SYNONYMS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("device", "devices", "cuda", "gpu", "gpu_ids", "accelerator", "ngpus", "num_gpus"), _GPUS),
    **dict.fromkeys(("amp", "fp16", "bf16", "half", "mixed_precision", "use_amp", "amp_dtype"), _HALF),
    **dict.fromkeys(("pretrained", "initial_checkpoint", "pretrained_path"), _START),
    **dict.fromkeys(("weights", "weight", "ckpt", "ckpt_path", "model_path", "load", "load_from"), _WEIGHTS),
    **dict.fromkeys(("learning_rate", "lr0", "base_lr", "learningrate", "initial_lr"), ("lr",)),
    **dict.fromkeys(("bs", "batch", "train_batch_size", "batch_size_per_gpu", "b"), _BATCH),
    **dict.fromkeys(("val_batch_size", "test_batch_size", "validation_batch_size"), ("eval_batch_size",)),
    **dict.fromkeys(("img_size", "imgsz", "image_size", "input_size", "img", "crop_size", "resize"), _SIZE),
    **dict.fromkeys(("resume", "resume_from", "resume_from_checkpoint", "auto_resume"), _AGAIN),
    **dict.fromkeys(("conf", "thre", "thr", "prob_threshold"), _CUT),
    **dict.fromkeys(("source", "image", "img_path", "input_dir", "folder"), ("input",)),
    **dict.fromkeys(("topk", "top_k", "max_labels"), ("top",)),
    **dict.fromkeys(("data", "data_dir", "data_path", "datadir", "datamodule"), _DATA),
    **dict.fromkeys(("root", "data_root", "dataset_root", "dataset_dir", "dataset.path"), ("dataset.root",)),
    **dict.fromkeys(("num_workers", "nworkers", "n_workers", "j"), ("workers",)),
    **dict.fromkeys(("wd", "decay", "l2_reg"), ("weight_decay",)),
    **dict.fromkeys(("max_epochs", "num_epochs", "epoch_num", "n_epochs", "niter"), _EPOCHS),
    **dict.fromkeys(("output", "out", "out_dir", "project", "save_dir", "log_dir", "logdir"), _FOLDER),
    **dict.fromkeys(("default_root_dir", "workdir", "work_dir"), _FOLDER),
    **dict.fromkeys(("experiment_name", "run_name", "exp_name", "exp"), ("name",)),
    **dict.fromkeys(("arch", "net", "network", "backbone", "architecture"), _NETWORK),
    **dict.fromkeys(("model_s", "student_model"), ("student",)),
    **dict.fromkeys(("model_t", "teacher_model", "path_t", "teacher_path", "teacher_ckpt"), ("teacher",)),
    **dict.fromkeys(("opt", "optim"), ("optimizer",)),
    **dict.fromkeys(("sched", "scheduler", "lr_scheduler", "cos_lr"), ("schedule.cosine_epochs",)),
    **dict.fromkeys(("warmup_epochs", "warmup", "warmup_t"), ("schedule.warmup",)),
    **dict.fromkeys(("lr_decay_epochs", "milestones", "decay_epochs"), ("schedule.steps",)),
    **dict.fromkeys(("hflip", "fliplr"), ("augment.flip",)),
    **dict.fromkeys(("color_jitter", "colour_jitter"), ("augment.brightness",)),
    **dict.fromkeys(("accumulate_grad_batches", "grad_accum_steps", "gradient_accumulation_steps"), ("accumulate",)),
    **dict.fromkeys(("model_ema", "model_ema_decay", "ema_decay"), ("ema",)),
    **dict.fromkeys(("sync_batchnorm", "syncbn"), ("sync_bn",)),
    **dict.fromkeys(("patience", "early_stopping", "early_stopping_patience", "earlystopping"), ("early_stop",)),
    **dict.fromkeys(("clip_grad_norm", "gradient_clip_val", "max_grad_norm", "grad_clip", "max_norm"), ("clip_grad",)),
    **dict.fromkeys(("smoothing", "label_smoothing"), ("label_loss.label_smoothing", "loss.label_smoothing")),
    **dict.fromkeys(("pos_weight", "class_weights", "class_weight"), ("label_loss.pos_weight", "loss.pos_weight")),
    **dict.fromkeys(("weighted_sampler", "class_balanced", "balanced_sampling", "balance"), ("balanced",)),
    **dict.fromkeys(("lr_head", "head_lr_factor", "classifier_lr", "lrp"), ("head_lr",)),
    **dict.fromkeys(("freeze_backbone_epochs", "unfreeze_epoch", "freeze_backbone"), ("freeze_epochs",)),
    **dict.fromkeys(("norm_weight_decay", "bias_weight_decay", "filter_bias_and_bn"), ("decay_weights_only",)),
    **dict.fromkeys(("val_split", "validation_split", "val_fraction"), ("dataset.holdout",)),
    **dict.fromkeys(("save_period", "checkpoint_freq"), ("checkpoint_minutes",)),
    **dict.fromkeys(("logger", "tracker", "trackers", "report_to", "wandb", "use_wandb"), ("track",)),
    **dict.fromkeys(("print_freq", "log_interval", "log_every_n_steps", "log_freq"), ("log_every",)),
    **dict.fromkeys(("distill", "kd", "kd_loss", "criterion"), ("loss",)),
    **dict.fromkeys(("kd_t", "tau", "kd_temperature"), ("loss.temperature",)),
    **dict.fromkeys(("hash_num", "num_hashes"), ("loss.hash_num",)),
    **dict.fromkeys(("random_seed", "manual_seed"), ("seed",)),
    **dict.fromkeys(("exist_ok", "force"), ("overwrite",)),
    **dict.fromkeys(("config", "cfg", "config_file"), _SETTINGS),
}  # fmt: skip

COMMANDS = {
    **dict.fromkeys(("test", "val", "validate", "evaluate", "evaluation"), "it is lshfm eval checkpoint=FILE"),
    **dict.fromkeys(("distill", "distil", "kd", "student"), "it is lshfm mimic"),
    **dict.fromkeys(("fit", "finetune", "fine-tune", "teacher"), "it is lshfm train"),
    "resume": "the same command again continues an unfinished run",
    **dict.fromkeys(("infer", "inference", "detect"), "it is lshfm predict checkpoint=FILE input=FOLDER"),
    **dict.fromkeys(("convert", "onnx", "save", "deploy"), "it is lshfm export checkpoint=FILE format=onnx"),
    **dict.fromkeys(("list", "experiments"), "it is lshfm recipes"),
    **dict.fromkeys(("ls", "status", "show"), "it is lshfm runs"),
    **dict.fromkeys(("sweep", "search", "tune"), "it is lshfm train -m KEY=VALUE,VALUE, or lshfm mimic"),
}  # fmt: skip

# Of Hydra's own: what it takes after --.
FLAGS = (
    "help", "hydra-help", "version", "cfg", "resolve", "package", "run", "multirun", "shell-completion", "config-path",
    "config-name", "config-dir", "experimental-rerun", "info",
)  # fmt: skip


def all_keys(command: str) -> set[str]:
    """Groups and keys that a command has whatever was chosen, dotted; and those of an option that people ask for."""
    found = {*groups(command), "settings"}
    for name, hint in key_types(schema.COMMANDS[command]).items():
        found.add(name)
        if hasattr(hint, "__dataclass_fields__"):
            found |= {f"{name}.{each.name}" for each in key_fields(hint) if not each.metadata.get("is_part")}
        if is_group(hint):
            found |= {f"{name}.{own}" for own in ("root", "temperature", "hash_num", "label_smoothing", "pos_weight")}
    return found


def synonym(command: str, name: str) -> str | None:
    """A clause with our key for another tool's, as far as the command has one; None for names of no other tool."""
    spelt = name.lower().replace("-", "_")
    answers = SYNONYMS.get(spelt) or SYNONYMS.get(re.sub(r"^(model|student)\.", "", spelt), ())
    known = all_keys(command)
    for answer in answers:
        key, _, says = answer.partition(": ")
        if key == _NONE:
            return says
        if key.partition("=")[0] in known:
            return f"it is {key} here" + (f" ({says})" if says else "")
    return None


def bare_word(command: str, word: str) -> str:
    """What a word without = was most likely meant for, as a clause with what to type; nothing where that is open."""
    if word in all_keys(command) and not is_folder(word):
        return f": {word}=VALUE"
    if command == "predict":
        return f"; only the network stands alone, pictures are {shlex.quote(f'input={printable(word)}')}"
    if command in ("eval", "export"):
        return f"; only the network stands alone, as: lshfm {command} NAME"
    return f". {own_images(word)}" if is_folder(word) else ""


def is_folder(word: str) -> bool:
    """Whether a word is the path of a folder; one that cannot be a path, such as a very long one, is none."""
    try:
        return Path(word).expanduser().is_dir()
    except (OSError, RuntimeError, ValueError):
        return False


def own_images(folder: str) -> str:
    """A sentence on how a folder is given."""
    return (
        f"Images of your own are dataset=manifest dataset.root={printable(folder)} (with a table), or "
        "dataset=imagefolder (with a folder for each class)"
    )


def refuse_slips(command: str, words: Sequence[str]) -> None:
    """InputError for words in another tool's way, with the word to type."""
    for word, after in zip(words, [*words[1:], ""], strict=False):
        if word.startswith("--"):
            _refuse_flag(command, word, after)
        name, equals, value = word.lstrip("+").partition("=")
        if not equals or word.startswith("-"):
            continue
        if not value.strip("'\" "):
            _refuse_empty(command, name)
        _refuse_group(command, name, value)


def _refuse_flag(command: str, word: str, after: str) -> None:
    """A flag of no tool of ours: a key in another tool's spelling, or nothing."""
    flag, equals, value = word[2:].partition("=")
    if flag != "config" and any(each.startswith(flag) for each in FLAGS):
        return
    name = flag.replace("-", "_")
    given = value if equals else after if after and after[0] != "-" and "=" not in after else "VALUE"
    if flag != "config" and name in all_keys(command):
        raise InputError(f"{word}: write {name}={given}")
    if clause := synonym(command, name):
        raise InputError(f"{word}: no such flag; {clause}, without dashes. See lshfm {command} --help")
    near = nearest(name, all_keys(command))
    raise InputError(f"{word}: no such flag{near}; keys are written KEY=VALUE, see lshfm {command} --help")


def _refuse_empty(command: str, name: str) -> None:
    if name.rpartition(".")[2] in {"weights", "init"}:
        raise InputError(f"{name}= has no value: imagenet, none (random weights) or a file")
    if name in all_keys(command):
        raise InputError(f"{name}= has no value: write {name}=VALUE, or leave it out for its default")


def _refuse_group(command: str, name: str, value: str) -> None:
    """What no option of a group can be called, and groups of another command."""
    own = groups(command)
    if name == "dataset" and ("/" in value or value.startswith(("~", "."))):
        raise InputError(
            f"dataset={value}: takes an option's name, no path. Images of your own are dataset=manifest "
            f"dataset.root={value}; others dataset=NAME dataset.root={value}, NAME of {', '.join(options('dataset'))}"
        )
    if name.partition(".")[0] == "model" and "model" not in own:
        if command == "mimic":
            instead = f"student{name.removeprefix('model')}={value}"
            raise InputError(f"{name}={value}: mimic has two networks, teacher=... and student=...: write {instead}")
        raise InputError(f"{name}={value}: lshfm {command} needs no network")


def timm_hint(command: str, role: str, option: str) -> str:
    """A clause for a network that timm has and conf/model has not; nothing for other names."""
    arch = option.partition(".")[0]
    if group_folder(command, role) != "model" or not re.fullmatch(r"\w+", arch):
        return ""
    names = set(_timm_names())
    if arch in names or (not names and not nearest(option, options("model"))):
        return f" timm's networks are {role}=timm {role}.arch={option}."
    return ""


def _timm_names() -> Iterator[str]:
    """The names of timm's networks, by its source: importing it would take seconds."""
    found = importlib.util.find_spec("timm")
    for folder in found.submodule_search_locations or () if found else ():
        for path in sorted(Path(folder, "models").glob("*.py")):
            text = path.read_text(encoding="utf-8")
            yield from re.findall(r"^@register_model\ndef (\w+)\(", text, re.MULTILINE)
