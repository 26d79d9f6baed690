"""Rewrites arguments as users type them into overrides that Hydra's grammar takes."""

import re
from collections.abc import Container, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep

from lshfm.config import CONF_DIR
from lshfm.config.catalogue import filled_from_elsewhere, is_teacher
from lshfm.config.guards import parses, require_countable, require_readable
from lshfm.config.keys import PATHS
from lshfm.config.recipes import recipe_command
from lshfm.errors import InputError

# Keys whose values are paths or free text: they get quotes, so that the grammar reads no numbers or lists in them.
TEXT_KEYS = {"name"} | PATHS
FOLDERS = ("--config-dir", "-cd", "--config-path", "-cp")  # flags whose value may hold a =
OWN_OF_A_STAGE = re.compile(r"\+\+stage([12])\.(.+)", flags=re.DOTALL)
THRESHOLDS = {"tune": "true", "none": "false"}  # a word for a key that holds others
QUOTES = "'\""
SHARED = {"student", "stage", "experiment", "name", "gpus", "workers", "output_dir", "checkpoint_dir"}
OF_A_STAGE = ("loss", "label_loss")  # groups that may differ between the stages
TAKE_A_CHECKPOINT = ("eval", "predict", "export")
SHORT = {"schedule": "schedule.policy"}  # a word for a key that holds keys stands for one of them


def rewrite(command: str, argv: Sequence[str]) -> list[str]:
    """A command's arguments for Hydra: overrides rewritten, flags first, as Hydra takes none between overrides."""
    argv = _with_checkpoint(command, argv)
    groups = filled_from_elsewhere(command)
    sweeps = bool({"-m", "--multirun"} & set(argv))
    given = {word.partition("=")[0] for word in argv}
    flags, overrides = [], []
    for previous, word in zip(["", *argv], argv, strict=False):
        require_readable(word)
        if word.startswith("~") and not word.startswith("~hydra") and previous not in FOLDERS:
            raise InputError(f"{word}: groups and keys can be set, not left out")
        match = re.fullmatch(r"([+~]{0,2})([\w.@/]+)=(.+)", word, flags=re.DOTALL)
        if match and previous not in FOLDERS:
            overrides += _override(*match.groups(), sweeps=sweeps, given=given, groups=groups)
        elif "=" in word and word[0] != "-" and previous not in FOLDERS:
            overrides.append(word)
        else:
            flags.append(word)
    for word in filter(parses, overrides):
        _require_names(word)
    if sweeps:
        require_countable(overrides)
    return flags + overrides


def _with_checkpoint(command: str, argv: Sequence[str]) -> list[str]:
    """`lshfm eval PATH` as `lshfm eval checkpoint=PATH`; predict and export likewise. A second such word is Hydra's."""
    flags = {"-m", "--multirun"}
    after_flags = {n for n, word in enumerate(argv, 1) if word[:1] == "-" and word not in flags}
    bare = [n for n, word in enumerate(argv) if "=" not in word and word[:1] not in "-~" and n not in after_flags]
    is_given = any(word.startswith("checkpoint=") for word in argv)
    if command not in TAKE_A_CHECKPOINT or is_given or not bare:
        return list(argv)
    return [f"checkpoint={word}" if n == bare[0] else word for n, word in enumerate(argv)]


def _require_names(override: str) -> None:
    """InputError unless a group is given names of options, each once; Hydra takes repeated names, and keys, too."""
    of_a_stage = OWN_OF_A_STAGE.fullmatch(override)
    parsed = OverridesParser.create().parse_override(_decoded(of_a_stage[2]) if of_a_stage else override)
    group, word = str(parsed.key_or_group), str(parsed.input_line)
    if parsed.package:  # as it was typed: model@student=... as student=...
        word = word.replace(f"{group}@{parsed.package}=", f"{parsed.package}=", 1)
    if not (CONF_DIR / group).is_dir() and not group.startswith("hydra/"):
        return
    value = parsed.value()
    for options in value.list if isinstance(value, ChoiceSweep) else [value]:
        names = options if isinstance(options, list) else ["one"]
        if isinstance(options, dict) or not names:
            raise InputError(f"{word}: takes an option's name; keys are set as {parsed.package or group}.KEY=...")
        if not all(isinstance(name, str) for name in names):
            raise InputError(f"{word}: a list of options holds their names")
        if len(set(names)) < len(names):
            raise InputError(f"{word}: an option is there twice")


def for_stage(stage: str, overrides: Sequence[str], losses: Sequence[str] = (), keys: Container[str] = ()) -> list[str]:
    """A mimic command's rewritten overrides for one stage: its stageN.KEY last, the other stage's left out.

    losses: replace the typed ones, whose keys (loss.KEY) are then left out too, but for those in `keys`.
    """
    general, of_this_stage = [], []
    left_out = ("stage=", "loss=", "loss.") if losses else ("stage=",)
    for override in overrides:
        match = OWN_OF_A_STAGE.fullmatch(override)
        if match and match[1] == stage:
            of_this_stage.append(_decoded(match[2]))
        elif not match and (not override.startswith(left_out) or override.partition("=")[0] in keys):
            general.append(override)
    return [*general, f"stage='{stage}'", *([f"loss=[{','.join(losses)}]"] if losses else []), *of_this_stage]


def _override(
    sign: str, name: str, value: str, *, sweeps: bool, given: set[str], groups: Mapping[str, str]
) -> list[str]:
    stage, _, key = name.partition(".")
    if stage in {"stage1", "stage2"}:
        if not key:
            raise InputError(f"{stage} takes keys, as {stage}.lr=0.1")
        key = _in_full(key, value)
        return [f"++{stage}.{_encoded(key)}={_value(key, value, sweeps=sweeps)}"]
    if name == "teacher":
        return _teacher(sign, value, sweeps=sweeps)
    if name == "thresholds" and value in THRESHOLDS:
        return [f"{sign}thresholds.tune={THRESHOLDS[value]}"]
    name = _in_full(name, value)
    if name == "stage":
        return [f"{sign}stage={value if value[0] in QUOTES else re.sub('[0-9]+', _quoted_number, value)}"]
    from_checkpoint = "checkpoint" in given and stage in {"dataset", "model"}
    from_preset = "checkpoint" not in given and stage in {"student", "teacher"} and stage not in given
    if key and (from_checkpoint or from_preset):
        sign = "++"  # the group's option is chosen later, so that Hydra knows no such key yet
    return [f"{sign}{groups.get(name, name)}={_value(name, value, sweeps=sweeps)}"]


def _in_full(key: str, value: str) -> str:
    """The key that a word is meant for: schedule=onecycle for schedule.policy=onecycle."""
    return SHORT.get(key, key) if re.fullmatch(r"(?!null\b)[a-z]\w*(,[a-z]\w*)*", value) else key


def _quoted_number(match: re.Match[str]) -> str:
    return f"'{match[0]}'"


def _teacher(sign: str, value: str, *, sweeps: bool) -> list[str]:
    """A network's name stays an option of the group; anything else is a checkpoint's path or name."""
    values = value.split(",") if sweeps else [value]
    options = [is_teacher(v.strip(QUOTES)) for v in values]
    if value == "null" or all(options):
        return [f"{sign}teacher={value}"]
    if any(options):
        raise InputError(f"teacher={value}: a sweep is over networks or over checkpoints, not over both")
    return [f"{sign}teacher=checkpoint", f"teacher.path={','.join(quoted(v) for v in values)}"]


def _encoded(key: str) -> str:
    """A stage's key as its node holds it: loss as loss.name, so that stage1.loss=l2 stage1.loss.beta=3 go together."""
    group = key.partition(".")[0]
    if key in OF_A_STAGE:
        return f"{key}.name"
    if key in SHARED or group in {"dataset", "teacher"}:
        raise InputError(f"{key}: the same for both stages, so not to be set for one; give {key}=... alone")
    return key


def _decoded(override: str) -> str:
    key, _, value = override.partition("=")
    group = key.removesuffix(".name")
    return f"{group}={value}" if group in OF_A_STAGE and key != group else override


def _value(key: str, value: str, *, sweeps: bool) -> str:
    is_text = key in TEXT_KEYS and value != "null" and not (sweeps and re.search(r"[,(]", value))
    if value[0] in QUOTES or value.startswith("${") or not (is_text or not parses(f"{key}={value}")):
        return value
    return quoted(value)


def quoted(value: str) -> str:
    if value[0] in QUOTES:
        return value
    # Backslashes count only before a quote, the closing one too.
    escaped = re.sub(r"(\\*)('|\Z)", lambda m: m[1] * 2 + m[2].replace("'", "\\'"), value)
    return f"'{escaped}'"


def folders_of(argv: Sequence[str]) -> list[Path]:
    """The folders that --config-dir names, with options of the user's own."""
    folders = [word for previous, word in pairwise(argv) if previous in FOLDERS[:2]]
    folders += [word.partition("=")[2] for word in argv if word.partition("=")[0] in FOLDERS[:2] and "=" in word]
    return [Path(folder) for folder in folders]


def without_launcher(words: Sequence[str]) -> list[str]:
    """The words without those on Hydra's launcher: a request for help is no job to submit."""
    return [word for word in words if not word.startswith(("hydra/launcher=", "hydra.launcher."))]


def refuse_foreign_recipes(command: str, words: Sequence[str]) -> None:
    """InputError for a recipe of another command, in place of Hydra's error on an unknown group."""
    for word in words:
        if not word.lstrip("+").startswith("experiment="):
            continue
        for name in word.partition("=")[2].strip("'\"").split(","):
            owner = recipe_command(name)
            if owner and owner != command:
                raise InputError(f"experiment={name} is a recipe of another command: lshfm {owner} experiment={name}")


def typed_keys(overrides: Sequence[str]) -> set[str]:
    """The keys and groups that overrides name."""
    return {override.partition("=")[0].lstrip("+") for override in overrides}
