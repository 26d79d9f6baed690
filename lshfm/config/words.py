"""Arguments as users type them, turned into what Hydra's grammar takes."""

import math
import re
from collections.abc import Container, Sequence
from itertools import pairwise
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, RangeSweep

from lshfm.config import CONF_DIR, schema
from lshfm.config.launch import OPTIONS_OF, parses
from lshfm.config.teachers import is_teacher
from lshfm.errors import InputError

# Their values are paths or free text: never numbers, never something for the grammar to take apart.
TEXT_KEYS = {"name"} | schema.PATHS
FOLDERS = ("--config-dir", "-cd", "--config-path", "-cp")  # flags whose value may hold a =
# Groups that users know by their role, where Hydra needs to hear whose options they take.
GROUPS = {role: f"{group}@{role}" for role, group in OPTIONS_OF.items()}
DEEPEST, MOST_DIGITS, MOST_JOBS = 100, 4000, 10_000
OWN_OF_A_STAGE = re.compile(r"\+\+stage([12])\.(.+)", flags=re.DOTALL)
QUOTES = "'\""
SHARED = {"student", "stage", "experiment", "name", "gpus", "workers", "output_dir", "checkpoint_dir"}
OF_A_STAGE = ("loss", "label_loss")  # groups that may differ between the stages


def rewrite(argv: Sequence[str]) -> list[str]:
    """All arguments of a command, flags first: Hydra's parser takes none between the overrides."""
    sweeps = bool({"-m", "--multirun"} & set(argv))
    given = {word.partition("=")[0] for word in argv}
    flags, overrides = [], []
    for before, word in zip(["", *argv], argv, strict=False):
        _require_readable(word)
        if word.startswith("~") and not word.startswith("~hydra") and before not in FOLDERS:
            raise InputError(f"{word}: groups and keys can be set, not left out")
        match = re.fullmatch(r"([+~]{0,2})([\w.@/]+)=(.+)", word, flags=re.DOTALL)
        if match and before not in FOLDERS:
            overrides += _override(*match.groups(), sweeps=sweeps, given=given)
        elif "=" in word and word[0] != "-" and before not in FOLDERS:
            overrides.append(word)
        else:
            flags.append(word)
    for word in filter(parses, overrides):
        _require_names(word)
    if sweeps:
        _require_countable(overrides)
    return flags + overrides


def _require_readable(word: str) -> None:
    """Hydra's parser calls itself for every bracket, and leaves Python's limit on digits to others."""
    if re.search(rf"[\d_]{{{MOST_DIGITS + 1}}}", word):
        raise InputError(f"{word[:40]}...: a number of more than {MOST_DIGITS} digits")
    depth = deepest = 0
    for bracket in re.findall(r"[\[{(\]})]", word):
        depth += 1 if bracket in "[{(" else -1
        deepest = max(deepest, depth)
    if deepest > DEEPEST:
        raise InputError(f"{word[:40]}...: {deepest} brackets within each other; {DEEPEST} are the most")


def _require_names(override: str) -> None:
    """Hydra takes whatever a group is given for names of its options, once or twice, or for keys."""
    of_a_stage = OWN_OF_A_STAGE.fullmatch(override)
    parsed = OverridesParser.create().parse_override(_decoded(of_a_stage[2]) if of_a_stage else override)
    group = str(parsed.key_or_group)
    if not (CONF_DIR / group).is_dir() and not group.startswith("hydra/"):
        return
    value = parsed.value()
    for options in value.list if isinstance(value, ChoiceSweep) else [value]:
        names = options if isinstance(options, list) else ["one"]
        if isinstance(options, dict) or not names:
            raise InputError(f"{parsed.input_line}: takes an option's name; keys are set as {group}.KEY=...")
        if not all(isinstance(name, str) for name in names):
            raise InputError(f"{parsed.input_line}: a list of options holds their names")
        if len(set(names)) < len(names):
            raise InputError(f"{parsed.input_line}: an option is there twice")


def _require_countable(overrides: Sequence[str]) -> None:
    """Hydra lists all jobs of a sweep before the first one starts: a mistyped range would fill the memory."""
    jobs = math.prod(_num_values(word) for word in overrides if parses(word))
    if jobs > MOST_JOBS:
        raise InputError(f"this sweep would be {jobs} jobs; {MOST_JOBS} are the most")


def _num_values(override: str) -> int:
    sweep = OverridesParser.create().parse_override(override).value()
    if isinstance(sweep, RangeSweep):
        start, stop, step = (float(bound or 0) for bound in (sweep.start, sweep.stop, sweep.step))
        count = (stop - start) / step if step else 1  # Hydra says what is wrong with a step of 0
        return max(math.ceil(count), 1) if math.isfinite(count) else MOST_JOBS + 1
    return len(sweep.list) if isinstance(sweep, ChoiceSweep) else 1


def for_stage(stage: str, overrides: Sequence[str], losses: Sequence[str] = (), keys: Container[str] = ()) -> list[str]:
    """A mimic command's overrides (rewritten) as one stage sees them: its own stageN.KEY last, the other's left out.

    losses: in place of those that were typed, whose keys then are left out as well, but for `keys` (loss.beta).
    """
    general, own = [], []
    left_out = ("stage=", "loss=", "loss.") if losses else ("stage=",)
    for override in overrides:
        match = OWN_OF_A_STAGE.fullmatch(override)
        if match and match[1] == stage:
            own.append(_decoded(match[2]))
        elif not match and (not override.startswith(left_out) or override.partition("=")[0] in keys):
            general.append(override)
    return [*general, f"stage='{stage}'", *([f"loss=[{','.join(losses)}]"] if losses else []), *own]


def _override(sign: str, name: str, value: str, *, sweeps: bool, given: set[str]) -> list[str]:
    stage, _, key = name.partition(".")
    if stage in {"stage1", "stage2"}:
        if not key:
            raise InputError(f"{stage} takes keys, as {stage}.lr=0.1")
        return [f"++{stage}.{_encoded(key)}={_value(key, value, sweeps=sweeps)}"]
    if name == "teacher":
        return _teacher(sign, value, sweeps=sweeps)
    if name == "stage":
        return [f"{sign}stage={value if value[0] in QUOTES else re.sub('[0-9]+', _quoted_number, value)}"]
    from_checkpoint = "checkpoint" in given and stage in {"dataset", "model"}
    from_preset = "checkpoint" not in given and stage in {"student", "teacher"} and stage not in given
    if key and (from_checkpoint or from_preset):
        sign = "++"  # the group's option is chosen later, so that Hydra knows no such key yet
    return [f"{sign}{GROUPS.get(name, name)}={_value(name, value, sweeps=sweeps)}"]


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
    return [f"{sign}teacher=checkpoint", f"teacher.path={','.join(_quoted(v) for v in values)}"]


def _encoded(key: str) -> str:
    """A stage's key as one that can lie in a node beside the others: stage1.loss=l2 stage1.loss.beta=3."""
    group = key.partition(".")[0]
    if key in OF_A_STAGE:
        return f"{key}.name"
    if key in SHARED or group in {"dataset", "teacher"}:
        raise InputError(f"{key}: the same for both stages, so not to be set for one; give {key}=... alone")
    return key


def _decoded(override: str) -> str:
    key, _, value = override.partition("=")
    group = key.removesuffix(".name")
    return f"{GROUPS.get(group, group)}={value}" if group in OF_A_STAGE and key != group else override


def _value(key: str, value: str, *, sweeps: bool) -> str:
    is_text = key in TEXT_KEYS and value != "null" and not (sweeps and re.search(r"[,(]", value))
    if value[0] in QUOTES or value.startswith("${") or not (is_text or not parses(f"{key}={value}")):
        return value
    return _quoted(value)


def _quoted(value: str) -> str:
    if value[0] in QUOTES:
        return value
    # Backslashes count only before a quote, the closing one too.
    escaped = re.sub(r"(\\*)('|\Z)", lambda m: m[1] * 2 + m[2].replace("'", "\\'"), value)
    return f"'{escaped}'"


def config_folders(argv: Sequence[str]) -> list[Path]:
    """Where --config-dir says that options of the user's own lie."""
    folders = [word for before, word in pairwise(argv) if before in FOLDERS[:2]]
    folders += [word.partition("=")[2] for word in argv if word.partition("=")[0] in FOLDERS[:2] and "=" in word]
    return [Path(folder) for folder in folders]
