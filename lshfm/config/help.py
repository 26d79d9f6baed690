"""lshfm COMMAND --help: groups with their options, keys with their meaning and value; and --cfg job."""

import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, MissingMandatoryValue

from lshfm.config import schema
from lshfm.config.catalogue import comments, group_folder, groups, in_order, options
from lshfm.config.changes import flatten
from lshfm.config.check import is_group, key_types, role_of
from lshfm.config.compose import compose_unchecked, config_folders, hydra_ready, to_yaml
from lshfm.config.groups import without_pooling
from lshfm.config.headings import FIRST, HIDDEN, SECTIONS, STAGES, TEXTS
from lshfm.config.keys import key_fields
from lshfm.config.recipes import recipe_command
from lshfm.config.sweeping import help_rows

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
        "lshfm eval checkpoint=student.ckpt thresholds=tune calibration=temperature",
    ],
    "predict": [
        "lshfm predict checkpoint=checkpoints/NAME.ckpt input=photo.jpg",
        "lshfm predict checkpoint=NAME input=photos format=csv sheet=true",
        "lshfm predict checkpoint=DETECTOR input=photos pictures=true devkit=true",
        "lshfm predict checkpoint=NAME input='photos/**/*.jpg' threshold=0.7 features=true",
    ],
    "export": [
        "lshfm export checkpoint=NAME format=onnx dataset.root=/data/VOCdevkit bench=true",
        "lshfm export checkpoint=NAME format=onnx uint8=true images=photos",
        "lshfm export checkpoint=NAME format=safetensors file=student.safetensors",
    ],
    "check": [
        "lshfm check dataset=voc2007 dataset.root=~/VOCdevkit",
        "lshfm check dataset=manifest dataset.root=DIR dataset.eval_split=val format=json",
    ],
}
TRAINS = ("train", "mimic")
NOTES = {  # what a group takes beside its options' names
    "teacher": "add _GMP or _GWP for the pooling; or a checkpoint's PATH or name",
    "loss": "several as [l2,kl_sigmoid]",
}
MARGIN, FIRST_MARGIN = 26, 30  # columns before a key's text
FLAGS = """--cfg job prints all settings and runs nothing; -m sweeps over several values.
Hydra's flags work too: --config-dir DIR, --hydra-help."""


def command_help(command: str, overrides: Sequence[str], width: int | None = None) -> str:
    """The page of one command, with the values that `overrides` lead to; width: columns, None for unbroken lines."""
    keys = schema.COMMANDS[command]
    with hydra_ready():
        config, choices = compose_unchecked(command, overrides)
        values = flatten(resolved(config))
        chapter = [_group(command, group, width or 100) for group in groups(command)]
        chosen = {role_of(group): option for group, option in choices.items()}
        of_groups = {
            name: _group_rows(command, name, hint, chosen.get(name), values)
            for name, hint in key_types(keys).items()
            if is_group(hint)
        }
    lines = [f"usage: lshfm {command} [GROUP=OPTION] [KEY=VALUE] ...", "", "most used, each with an example:"]
    lines += [_first(example, text, values | chosen, width) for example, text in FIRST[command].items()]
    lines += ["", "examples:", *(_example(example, width) for example in EXAMPLES[command])]
    heading = "groups (GROUP=OPTION; your own in DIR/GROUP/NAME.yaml with --config-dir DIR):"
    lines += ["", heading, *chapter] if chapter else []
    lines += ["", "keys (KEY=VALUE; in brackets what holds now):"]
    for heading, rows in {**_sections(keys, values), **of_groups, **help_rows(command)}.items():
        lines += ["", f"{heading}:", *(_wrapped(row, width) for row in rows)] if rows else []
    notes = ["settings=FILE takes the config.yaml of a run folder; what else is typed wins."] * (command in TRAINS)
    return "\n".join([*lines, "", *notes, FLAGS])


def terminal_width() -> int | None:
    """The columns of the terminal that the output goes to; None if it goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def settings_text(command: str, overrides: Sequence[str]) -> str:
    """All settings as YAML, every value as it holds."""
    with hydra_ready():
        config, _ = compose_unchecked(command, overrides)
    return to_yaml(resolved(config)).rstrip()


def resolved(config: Any) -> dict[str, Any]:
    """Plain values, with ??? for what is still to be given and for what follows from that."""
    return {str(key): _value(config, key) for key in config}


def _value(config: Any, key: Any) -> Any:
    try:
        value = config[key]
    except (MissingMandatoryValue, InterpolationToMissingValueError):
        return "???"
    if OmegaConf.is_dict(value):
        return resolved(value)
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_list(value) else value


def _sections(keys: type, values: Mapping[str, Any]) -> dict[str, list[str]]:
    """Headings with the rows of keys of no group; what no heading names comes last."""
    rows = {
        each.name: list(_rows_of(each, key_types(keys)[each.name], values, ""))
        for each in key_fields(keys)
        if not is_group(key_types(keys)[each.name]) and each.name not in HIDDEN
    }
    found = {title: [row for name in names for row in rows.pop(name, [])] for title, names in SECTIONS.items()}
    return found | {"others": [row for own in rows.values() for row in own]}


def _group_rows(command: str, role: str, keys: type, option: Any, values: Mapping[str, Any]) -> list[str]:
    """The keys of a group: the chosen option's own, then those of all options."""
    if option is None and role == "dataset":  # eval: the checkpoint names it
        aside = ("preset",)
        of_all = {
            each.name: each.metadata["text"]
            for each in key_fields(keys)
            if each.name not in aside and each.metadata["text"]
        }
        texts = {"root": "folder of the data set", **of_all}
        shown = dict.fromkeys(texts, "the checkpoint's") | {"cache_dir": "LSHFM_CACHE, else ~/.cache/lshfm"}
        return [_row(f"{role}.{name}", text, shown[name]) for name, text in texts.items()]
    known = [row for each in key_fields(keys) for row in _rows_of(each, key_types(keys)[each.name], values, f"{role}.")]
    names = {row.split()[0] for row in known}
    own = [name for name in values if name.startswith(f"{role}.") and _is_own(name) and name not in names]
    texts = _texts(command, role, option)
    return [*(_row(name, texts.get(name.rpartition(".")[2], ""), values[name]) for name in own), *known]


def _texts(command: str, role: str, option: Any) -> dict[str, str]:
    """What is said of the keys of an option: for all of its group, then in its file."""
    group = group_folder(command, role)
    folder = "model" if group == "teacher" else group
    found = dict(TEXTS.get(folder, {}))
    for name in option if isinstance(option, list) else [option]:
        found |= comments(folder, without_pooling(str(name)) if folder == "model" else str(name), config_folders())
    return found


def _group(command: str, group: str, width: int) -> str:
    """A group's line: the options that the command takes."""
    known = in_order(options(group_folder(command, group)))
    fit = ", ".join(option for option in known if _fits(command, group, option))
    several = group != "loss" or command == "mimic"
    note = f" ({NOTES[group]})" if group in NOTES and several else ""
    return textwrap.fill(f"  {group}: {fit}{note}", width, subsequent_indent="      ")


def _fits(command: str, group: str, option: str) -> bool:
    """Whether help lists an option for the command: other commands' recipes and teachers' poolings are left out."""
    if group == "experiment":
        return recipe_command(option) in (command, None)
    if group == "teacher":
        return option != "checkpoint" and without_pooling(option) == option
    return True


def _is_own(dotted: str) -> bool:
    """Whether a key is an option's own, beside what its kind of option has."""
    group, _, rest = dotted.partition(".")
    if group not in {"dataset", "model", "teacher", "student", "loss", "label_loss"} or not rest:
        return False
    internal = rest.startswith("preset.") or ".terms." in rest or dotted == "teacher.weights"
    return rest.rpartition(".")[2] not in {"_target_", "name", "kind"} and not internal


def _rows_of(field: Any, hint: Any, values: Mapping[str, Any], prefix: str) -> Iterator[str]:
    """The row of a key, or those of the keys in it."""
    dotted, text = f"{prefix}{field.name}", field.metadata["text"]
    if dotted in STAGES:
        yield _row(f"{dotted}.KEY", text, _below(values, dotted))
    elif is_dataclass(hint) and not is_group(hint):
        inner = prefix if field.metadata.get("is_part") else f"{dotted}."
        for each in key_fields(hint):  # type: ignore[arg-type]
            yield from _rows_of(each, key_types(hint)[each.name], values, inner)  # type: ignore[arg-type]
    elif text and dotted in values:
        yield _row(dotted, text, values[dotted])


def _row(name: str, text: str, value: Any) -> str:
    if not text:
        return f"  {name}  [{_show(value)}]"
    return f"  {f'{name}  ':<24}{text}  [{_show(value)}]"


def _example(command: str, width: int | None) -> str:
    """A command line that can be typed, over several lines where the terminal is narrow."""
    lines = textwrap.wrap(command, (width or 10**6) - 8, break_long_words=False, break_on_hyphens=False)
    return "  " + " \\\n      ".join(lines)


def _first(example: str, text: str, values: Mapping[str, Any], width: int | None) -> str:
    """The row of a key that one types first, with the value that it has."""
    now = values.get(example.partition("=")[0])
    known = "" if now in (None, "???") else f" (now {_show(now)})"
    return _wrapped(f"  {example:<{FIRST_MARGIN - 4}}  {text}{known}", width, FIRST_MARGIN)


def _wrapped(row: str, width: int | None, margin: int = MARGIN) -> str:
    """A row over as many lines as a terminal needs, its text in a column of its own."""
    if width is None or len(row) <= width:
        return row
    indent = " " * min(margin, width // 2)
    return textwrap.fill(
        row, width, subsequent_indent=indent, drop_whitespace=True, break_long_words=False, break_on_hyphens=False
    )


def _below(values: Mapping[str, Any], node: str) -> str | None:
    """The keys and values below a node, in one line; None if there are none."""
    held = [f"{name.removeprefix(f'{node}.')}={_show(v)}" for name, v in values.items() if name.startswith(f"{node}.")]
    return ", ".join(held) or None


def _show(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return {"None": "not set", "{}": "not set", "???": "to be given"}.get(str(value), str(value))
