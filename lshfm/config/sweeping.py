"""Words of a sweep: which are its own (sweep=OPTION, sweep.KEY=VALUE), and the commands of its jobs."""

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from lshfm.config.catalogue import option_node, options
from lshfm.config.check import check
from lshfm.config.compose import hydra_ready
from lshfm.config.early import is_one_of_many
from lshfm.config.guards import require_few
from lshfm.config.keys import key, key_fields
from lshfm.config.parser import args_parser
from lshfm.config.ranges import Choice, Span, plain, range_of
from lshfm.config.sweep import FLAGS
from lshfm.config.words import folders_of, rewrite
from lshfm.errors import InputError, nearest

COMMANDS = ("train", "mimic")  # whose jobs are commands of their own, side by side
TEACHER = "sweep.teacher."
OF_A_FILE = ("grid", "settings")  # keys that nobody types


@dataclass(frozen=True)
class Sweep:
    """The keys of a sweep."""

    name: str | None = key("name of its folder, outputs/sweeps/NAME; without it made from what is swept")
    gpus_per_job: int = key("GPUs of a job", low=1)
    jobs_per_gpu: int = key("jobs that share a GPU", low=1)
    jobs: int = key("jobs side by side on a CPU (gpus=[]), which share its cores", low=1, high=1024)
    dry_run: bool = key("print the jobs' commands and start none")
    teacher: str | None = key(
        "train: first train the teachers that there are none of; sweep.teacher.KEY=VALUE sets a key of that",
        choices=("train",),
    )
    grid: dict[str, Any] = key("what is swept, as KEY: VALUES, unless the key is typed")
    settings: dict[str, Any] = key("settings of every job, unless the key is typed")
    trials: int | None = key("jobs of a search; null: all combinations of the values", low=1)
    prune: bool = key("a search ends trials that are worse than most at the same epoch")
    seed: int = key("of a search's choices", low=0, high=2**31 - 1)


@dataclass(frozen=True)
class Arm:
    """The words of one job, and what tells it from the others."""

    words: tuple[str, ...]
    settings: Mapping[str, str]


@dataclass(frozen=True)
class Asked:
    """A sweep as it was asked for.

    words: of all jobs, those that sweep included. arms: of a grid. space: of a search. gpus: as gpus= was given.
    teacher: words for the training of teachers.
    """

    settings: Sweep
    words: tuple[str, ...]
    arms: tuple[Arm, ...]
    space: Mapping[str, Span | Choice]
    gpus: Any
    teacher: tuple[str, ...]

    def with_words(self, words: Sequence[str]) -> tuple[str, ...]:
        """The words of a search's job: the fixed ones, then these."""
        return (*(word for word in self.words if _key(word) not in self.space), *words)


def is_sweep(words: Sequence[str]) -> bool:
    """Whether a command line asks for a sweep."""
    return bool(FLAGS & set(words)) or any(map(_is_own, words))


def without_sweep(words: Sequence[str]) -> list[str]:
    """The words that are no sweep's own: what help and --cfg show."""
    return [word for word in words if not _is_own(word)]


def is_side_by_side(words: Sequence[str]) -> bool:
    """Whether the jobs are commands of their own; a launcher of Hydra's, torchrun and srun run them in their way."""
    return not is_one_of_many() and not any(map(is_of_hydra, words))


def is_of_hydra(word: str) -> bool:
    """Whether a word sets a key or a group of Hydra's own."""
    return word.lstrip("+~").startswith(("hydra.", "hydra/"))


def has_sweeper(words: Sequence[str]) -> bool:
    """Whether a sweeper of Hydra's plugins makes the jobs."""
    return any(word.lstrip("+~").startswith(("hydra.sweeper", "hydra/sweeper")) for word in words)


def for_hydra(words: Sequence[str]) -> list[str]:
    """The words of a sweep whose jobs Hydra runs, as with a launcher: the grid written out, nothing of our own."""
    settings = _settings(words)
    if settings.trials:
        raise InputError("sweep=optuna runs its jobs itself, with no launcher of Hydra's")
    return ["-m", *_with_defaults(settings, [word for word in without_sweep(words) if word not in FLAGS])]


def asked(command: str, words: Sequence[str]) -> Asked:
    """Read a command line. Raises InputError for a key or a value that is none, and for a sweep over nothing."""
    settings = _settings(words)
    own = [word for word in without_sweep(words) if word not in FLAGS]
    own = _with_defaults(settings, own)
    with hydra_ready(folders_of(words)):
        parsed = {number: _parsed(command, word) for number, word in enumerate(own) if _is_setting(word)}
        gpus = [each for each in parsed.values() if each and each.key_or_group == "gpus"]
        if any(each.is_sweep_override() for each in gpus):
            raise InputError("gpus=: those that the sweep shares out among its jobs, as gpus=[0,1]; not swept")
        kept = [(word, parsed.get(number)) for number, word in enumerate(own) if not _is_gpus(parsed.get(number))]
        swept = {_key(word): each for word, each in kept if each and each.is_sweep_override()}
        space = {name: range_of(name, each) for name, each in swept.items()} if settings.trials else {}
        if settings.trials and not space:
            raise InputError("sweep=optuna: nothing to choose; give ranges, as lr='tag(log, interval(0.001,0.1))'")
        arms = () if settings.trials else tuple(_arms([_values(word, each) for word, each in kept]))
    last = gpus[-1].value() if gpus else None
    teacher = tuple(word.removeprefix(TEACHER) for word in words if word.startswith(TEACHER))
    return Asked(settings, tuple(word for word, _ in kept), arms, space, last, teacher)


def help_rows(command: str) -> dict[str, list[str]]:
    """What help says of sweeps, under its heading; nothing for commands whose jobs Hydra runs."""
    if command not in COMMANDS:
        return {}
    values = option_node("parts", "sweep")
    shown = [each for each in key_fields(Sweep) if each.name not in OF_A_FILE]
    rows = [("sweep", f"several values (-m lr=1,2), or a ready sweep: {', '.join(options('sweep'))}", None)]
    rows += [(f"sweep.{each.name}", each.metadata["text"], values[each.name]) for each in shown]
    texts = [f"  {name:<24}{text}  [{'not set' if v is None else str(v).lower()}]" for name, text, v in rows]
    return {"sweeps": texts}


def sweep_keys(command: str) -> list[str]:
    """The words in front of = that are a sweep's own, where the command has them."""
    own = [f"sweep.{each.name}" for each in key_fields(Sweep) if each.name not in OF_A_FILE]
    return ["sweep", *own] if command in COMMANDS else []


def overrides_of(command: str, words: Sequence[str]) -> list[str]:
    """The words of one job as overrides for Hydra, without flags."""
    return list(args_parser().parse_args(rewrite(command, words)).overrides)


def as_typed(overrides: Sequence[str]) -> list[str]:
    """Overrides as a user types them, which are rewritten to the same: stage=1 for stage='1', student=NET."""
    return [re.sub(r"^stage='(\w+)'$", r"stage=\1", re.sub(r"^\w+@(?=\w+=)", "", word)) for word in overrides]


def flags_of(words: Sequence[str]) -> list[str]:
    """The flags among the words of a job, with their values: --config-dir DIR."""
    found = [word for word in words if word.startswith("--config-dir=") or word.startswith("-cd=")]
    pairs = [pair for pair in itertools.pairwise(words) if pair[0] in ("--config-dir", "-cd")]
    return [*found, *itertools.chain.from_iterable(pairs)]


def title(arm: Mapping[str, str]) -> str:
    """What tells a job from the others, as typed."""
    return " ".join(f"{name}={value}" for name, value in arm.items())


def _is_own(word: str) -> bool:
    return word.lstrip("+").startswith(("sweep=", "sweep."))


def _is_setting(word: str) -> bool:
    return "=" in word and not word.startswith(("-", "settings="))


def _is_gpus(override: Override | None) -> bool:
    return override is not None and override.key_or_group == "gpus"


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+")


def _settings(words: Sequence[str]) -> Sweep:
    """The option's keys with those that were typed. Raises InputError."""
    typed = [word.lstrip("+") for word in words if _is_own(word)]
    option = next((word.partition("=")[2].strip("'\"") for word in typed if word.startswith("sweep=")), None)
    folders = folders_of(words)
    node = option_node("sweep", option, folders) if option else option_node("parts", "sweep")
    for word in typed:
        name, _, value = word.removeprefix("sweep.").partition("=")
        if word.startswith("sweep=") or word.startswith(TEACHER):
            continue
        known = [each.name for each in fields(Sweep)]
        if name in OF_A_FILE:
            raise InputError(f"{word}: {name} is of a file in DIR/sweep/, with --config-dir DIR")
        if name not in known:
            raise InputError(f"sweep.{name}: no such key{nearest(name, known)}. There are: {', '.join(known)}")
        node[name] = OverridesParser.create().parse_override(f"{name}={value}").value()
    if any(word.startswith(TEACHER) for word in typed):
        node["teacher"] = "train"
    check(node, Sweep, "sweep.")
    return Sweep(**node)


def _with_defaults(settings: Sweep, words: Sequence[str]) -> list[str]:
    """The words, with those of the option's grid and settings in front that are not typed."""
    typed = {_key(word) for word in words}
    grid = [f"{name}={value}" for name, value in settings.grid.items() if name not in typed]
    fixed = [f"{name}={value}" for name, value in settings.settings.items() if name not in typed]
    return [*words, *fixed, *grid]


def _parsed(command: str, word: str) -> Override | None:
    """A word as Hydra reads it in a sweep; None for one that it leaves to others to refuse."""
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    return parser.parse_override(rewrite(command, ["-m", word])[-1])


def _values(word: str, parsed: Override | None) -> list[tuple[str, bool]]:
    """The words that stand for one in the jobs, and whether it sweeps."""
    if parsed is None or not parsed.is_sweep_override():
        return [(word, False)]
    if not parsed.is_discrete_sweep():
        raise InputError(f"{word}: interval() holds all numbers between two, for a search: add sweep=optuna")
    name = word.partition("=")[0]
    return [(f"{name}={plain(_key(word), str(value))}", True) for value in parsed.sweep_string_iterator()]


def _arms(words: Sequence[list[tuple[str, bool]]]) -> Iterator[Arm]:
    require_few(math.prod(map(len, words)))
    for chosen in itertools.product(*words):
        settings = {_key(word): word.partition("=")[2] for word, sweeps in chosen if sweeps}
        yield Arm(tuple(word for word, _ in chosen), settings)
