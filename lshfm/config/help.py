"""lshfm COMMAND --help: groups with their options, keys with their meaning and value."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from lshfm.config import schema
from lshfm.config.choices import kinds
from lshfm.config.compose import compose_unchecked, flatten, hydra_ready
from lshfm.config.launch import OPTIONS_OF, groups, options, recipe_command
from lshfm.config.teachers import without_pooling

EXAMPLES = {
    "train": [
        "lshfm train",
        "lshfm train dataset=voc2007 dataset.root=~/VOCdevkit model=resnet34 loss=bce",
        "lshfm train experiment=voc2007_resnet34_baseline dataset.root=~/VOCdevkit",
        "lshfm train -m lr=0.01,0.02 seed=0,1,2",
    ],
    "mimic": [
        "lshfm mimic",
        "lshfm mimic dataset=voc2007 dataset.root=~/VOCdevkit teacher=resnet34 student=resnet18 loss=lshl2",
        "lshfm mimic stage=1 teacher=resnet101_GMP student=mobilenet_v2 dataset=coco2014 dataset.root=~/coco",
        "lshfm mimic experiment=voc2007_resnet18_mimic dataset.root=~/VOCdevkit loss=lsh",
        "lshfm mimic teacher=published.ckpt loss=[l2,kl_sigmoid] loss.kl_sigmoid.weight=0.1 stage1.epochs=5",
    ],
    "eval": [
        "lshfm eval checkpoint=checkpoints/voc2007_resnet34_bce_s0.ckpt",
        "lshfm eval checkpoint=teacher.ckpt dataset.root=/data/VOCdevkit eval_batch_size=128",
        "lshfm eval checkpoint=student.ckpt teacher=resnet34",
    ],
    "check": [
        "lshfm check dataset=voc2007 dataset.root=~/VOCdevkit",
        "lshfm check dataset=manifest dataset.root=DIR dataset.eval_split=val format=json",
    ],
}
NOTES = {  # what a group takes beside its options' names
    "teacher": "add _GMP or _GWP for the pooling; or a checkpoint's PATH or name",
    "loss": "several as [l2,kl_sigmoid]",
}
STAGES = ("stage1", "stage2")


def command_help(command: str, overrides: Sequence[str]) -> str:
    """The page of one command, with the values that `overrides` lead to."""
    with hydra_ready():
        config, _ = compose_unchecked(command, overrides)
        chapter = [_group(command, group) for group in groups(command)]
    values = flatten(OmegaConf.to_container(config, resolve=True))  # type: ignore[arg-type]
    lines = [f"usage: lshfm {command} [GROUP=OPTION] [KEY=VALUE] ...", "", "examples:"]
    lines += [f"  {example}" for example in EXAMPLES[command]]
    lines += ["", "groups (GROUP=OPTION; your own in DIR/GROUP/NAME.yaml with --config-dir DIR):", *chapter]
    lines += ["", "keys (KEY=VALUE; in brackets what holds now):"]
    lines += list(_rows(schema.COMMANDS[command], values, ""))
    known = set()
    for group, keys in schema.GROUP_KEYS[command]:
        lines += list(_rows(keys, values, f"{group}."))
        known |= {f"{group}.{f.name}" for f in fields(keys)}
    own = [f"  {name}  [{_show(value)}]" for name, value in values.items() if name not in known and _is_own(name)]
    lines += ["", "keys of the chosen options:", *own] if own else []
    flags = "Hydra's flags work too: -m sweeps, --cfg job prints the settings, --config-dir DIR, --hydra-help."
    return "\n".join([*lines, "", flags])


def _group(command: str, group: str) -> str:
    """A group's line: the options that the command takes."""
    fit = ", ".join(option for option in options(group) if _fits(command, group, option))
    several = group != "loss" or command == "mimic"
    note = f" ({NOTES[group]})" if group in NOTES and several else ""
    return textwrap.fill(f"  {group}: {fit}{note}", 100, subsequent_indent="      ")


def _fits(command: str, group: str, option: str) -> bool:
    """Whether the command takes an option; one that its file says nothing of is taken to fit."""
    if group == "experiment":
        return recipe_command(option) in (command, None)
    if group == "teacher":
        return option != "checkpoint" and without_pooling(option) == option
    wanted = schema.KINDS.get(command, {}).get(group)
    return wanted is None or set(_kinds(group, option)) <= set(wanted)


def _kinds(group: str, option: str) -> Iterator[str]:
    """The kinds of loss in an option's own file, without what it takes from others."""
    files: Any = GlobalHydra.instance().config_loader()
    found = files.repository.load_config(f"{OPTIONS_OF.get(group, group)}/{option}").config
    yield from kinds(found).values()


def _is_own(dotted: str) -> bool:
    """Whether a key is an option's own, beside what its kind of option has."""
    group, _, rest = dotted.partition(".")
    if group not in {"dataset", "model", "teacher", "student", "loss", "label_loss"} or not rest:
        return False
    return rest.rpartition(".")[2] not in {"_target_", "name", "kind"} and not rest.startswith("preset.")


def _rows(keys: type, values: Mapping[str, Any], prefix: str) -> Iterator[str]:
    hints = get_type_hints(keys)
    for field in fields(keys):
        dotted, text = f"{prefix}{field.name}", field.metadata["text"]
        if dotted in STAGES:
            yield _row(f"{dotted}.KEY", text, _below(values, dotted))
        elif is_dataclass(hints[field.name]):
            yield from _rows(hints[field.name], values, f"{dotted}.")
        elif text != schema.A_GROUP and dotted in values:
            yield _row(dotted, text, values[dotted])


def _row(name: str, text: str, value: Any) -> str:
    return f"  {name:<24}{text}  [{_show(value)}]"


def _below(values: Mapping[str, Any], node: str) -> str | None:
    """What a node holds, in a line."""
    held = [f"{name.removeprefix(f'{node}.')}={_show(v)}" for name, v in values.items() if name.startswith(f"{node}.")]
    return ", ".join(held) or None


def _show(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return {"None": "not set", "{}": "not set", "???": "to be given"}.get(str(value), str(value))
