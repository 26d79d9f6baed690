"""lshfm COMMAND --help: groups with their options, keys with their meaning and value."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

import hydra
from omegaconf import OmegaConf

from lshfm.config import schema
from lshfm.config.compose import flatten, hydra_ready
from lshfm.config.launch import groups, options

EXAMPLES = {
    "train": [
        "lshfm train",
        "lshfm train dataset=voc2007 dataset.root=~/VOCdevkit model=resnet34 loss=bce",
        "lshfm train experiment=voc2007_resnet34_baseline dataset.root=~/VOCdevkit",
        "lshfm train -m lr=0.01,0.02 seed=0,1,2",
    ],
    "eval": [
        "lshfm eval checkpoint=checkpoints/voc2007_resnet34_bce_s0.ckpt",
        "lshfm eval checkpoint=teacher.ckpt dataset.root=/data/VOCdevkit eval_batch_size=128",
    ],
}


def command_help(command: str, overrides: Sequence[str]) -> str:
    """The page of one command, with the values that `overrides` lead to."""
    with hydra_ready():
        config = hydra.compose(command, list(overrides))
    values = flatten(OmegaConf.to_container(config, resolve=True))  # type: ignore[arg-type]
    lines = [f"usage: lshfm {command} [GROUP=OPTION] [KEY=VALUE] ...", "", "examples:"]
    lines += [f"  {example}" for example in EXAMPLES[command]]
    lines += ["", "groups (GROUP=OPTION; your own in DIR/GROUP/NAME.yaml with --config-dir DIR):"]
    for group in groups(command):
        names = f"  {group}: {', '.join(options(group))}"
        lines.append(textwrap.fill(names, 100, subsequent_indent="      "))
    lines += ["", "keys (KEY=VALUE; in brackets what holds now):"]
    lines += list(_rows(schema.COMMANDS[command], values, ""))
    if values.get("dataset.name"):
        lines += list(_rows(schema.Dataset, values, "dataset."))
        lines += ["", "keys of the chosen options:"]
        known = {f"dataset.{f.name}" for f in fields(schema.Dataset)}
        lines += [f"  {k}  [{_show(v)}]" for k, v in values.items() if _is_own(k, known)]
    lines += [
        "",
        "Hydra's flags work too: -m sweeps, --cfg job prints the settings, --config-dir DIR, --hydra-help.",
    ]
    return "\n".join(lines)


def _is_own(dotted: str, known: set[str]) -> bool:
    group, _, rest = dotted.partition(".")
    if group not in {"dataset", "model", "loss"} or not rest or rest in {"_target_", "name"}:
        return False
    return dotted not in known and not dotted.startswith("dataset.preset.")


def _rows(keys: type, values: dict[str, Any], prefix: str) -> Iterator[str]:
    hints = get_type_hints(keys)
    for field in fields(keys):
        dotted = f"{prefix}{field.name}"
        if is_dataclass(hints[field.name]):
            yield from _rows(hints[field.name], values, f"{dotted}.")
        elif field.metadata["text"] != schema.A_GROUP and dotted in values:
            yield f"  {dotted:<24}{field.metadata['text']}  [{_show(values[dotted])}]"


def _show(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return {"None": "not set", "???": "to be given"}.get(str(value), str(value))
