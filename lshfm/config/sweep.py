"""The jobs of a sweep (-m), known and checked before the first one starts."""

import re
from collections.abc import Callable, Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser

from lshfm.config.compose import hydra_ready
from lshfm.config.parser import args_parser
from lshfm.config.words import folders_of
from lshfm.errors import InputError

FLAGS = {"-m", "--multirun"}
Check = Callable[[list[str]], object]


def checked_sweep(argv: Sequence[str], check: Check | None = None) -> list[str]:
    """A title for each job that Hydra will make of a command line; none without -m, or with a sweeper of one's own.

    check: called with each job's overrides. Raises what it raises, InputError with the job's title in front.
    """
    typed = args_parser().parse_args(list(argv))
    if not typed.multirun or any(word.startswith("hydra/sweeper") for word in typed.overrides):
        return []
    with hydra_ready(folders_of(argv)):
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        overrides = parser.parse_overrides(typed.overrides)
        (jobs,) = BasicSweeper.split_arguments(overrides, max_batch_size=None)
        swept = {each.get_key_element() for each in overrides if each.is_sweep_override()}
        titles = [_title(number, len(jobs), job, swept) for number, job in enumerate(jobs, 1)]
        for job, title in zip(jobs, titles, strict=True):
            if check:
                _check(check, [word for word in job if not word.startswith(("hydra.", "hydra/"))], title)
    return titles


def sweeps_over_epochs(typed: Sequence[str]) -> bool:
    """Whether a command line asks for several numbers of epochs: then each is a run planned for its own."""
    values = (word.partition("=")[2] for word in typed if word.partition("=")[0].lstrip("+").endswith("epochs"))
    return bool(FLAGS & set(typed)) and any("," in value or "(" in value for value in values)


def _title(number: int, total: int, job: Sequence[str], swept: set[str]) -> str:
    own = [word for word in job if word.partition("=")[0] in swept]
    return f"job {number} of {total}: {' '.join(map(_as_typed, own))}".removesuffix(": ")


def _as_typed(word: str) -> str:
    """What Hydra was told, as the user said it: stage=1 for stage='1', loss=asl for label_loss@loss=asl."""
    return re.sub(r"^\+*(?:\w+@)?(\w[\w.]*)='?([\w./-]+)'?$", r"\1=\2", word)


def _check(check: Check, words: list[str], title: str) -> None:
    try:
        check(words)
    except InputError as error:
        raise InputError(f"{title}: {error}") from error
