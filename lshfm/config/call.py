"""Settings given as a function's keyword arguments instead of on a command line."""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from lshfm.config.changes import flatten
from lshfm.config.compose import conf_folder
from lshfm.config.explain import explain
from lshfm.config.orders import order
from lshfm.config.repeat import as_word, with_settings
from lshfm.config.slips import refuse_slips
from lshfm.config.words import refuse_foreign_recipes, rewrite
from lshfm.errors import InputError

OPTION = "option"  # in a dictionary of a group's keys: the option's name
_RESERVED = ("true", "false", "null", "nan", "inf", "yes", "no", "on", "off")


@contextmanager
def called(command: str, settings: Mapping[str, Any], config_dir: str | Path | None) -> Iterator[tuple[Any, ...]]:
    """The arguments of a command's `run`, within the settings' own world, as a command line's are.

    settings: keys as on the command line, dotted or nested; in a dictionary of a group's keys the option is called
    `option`. config_dir: a folder with options of the user's own. Raises InputError as the command line does.
    """
    folders = [] if config_dir is None else [Path(config_dir).expanduser().absolute()]
    if missing := [folder for folder in folders if not folder.is_dir()]:
        raise InputError(f"config_dir={missing[0]} is no folder")
    flags = [word for folder in folders for word in ("--config-dir", str(folder))]
    words = words_of(settings)
    refuse_slips(command, words)
    repeated = with_settings(command, [*flags, *words])
    refuse_foreign_recipes(command, repeated)
    with _argv([f"lshfm {command}", *words]), conf_folder(folders):
        try:
            overrides = [word for word in rewrite(command, repeated) if word not in flags]
            arguments = order(command, overrides, ["lshfm", command, *flags, *words])
        except (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
            raise explain(command, error) from error
        yield arguments


def words_of(settings: Mapping[str, Any]) -> list[str]:
    """Settings as the words of a command line. Raises InputError for a value that none can hold."""
    flat = {key.removesuffix(f".{OPTION}"): value for key, value in flatten(settings).items()}
    for key, value in flat.items():
        if not isinstance(value, str | int | float | list | tuple | Path | None):
            raise InputError(f"{key}={value!r}: must be a number, a text, a list of those, or keys in a dictionary")
    groups = sorted(flat, key=lambda key: "." in key)  # an option before its keys
    return [f"{key}={_word(flat[key])}" for key in groups]


def _word(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_word, value))}]"
    text = str(value) if isinstance(value, Path) else value
    is_plain = isinstance(text, str) and re.fullmatch(r"[A-Za-z_]\w*", text) and text.lower() not in _RESERVED
    return str(text) if is_plain else as_word(text)


@contextmanager
def _argv(words: Sequence[str]) -> Iterator[None]:
    """The words in sys.argv while the block runs: messages look there for what was typed."""
    before, sys.argv = sys.argv, list(words)
    try:
        yield
    finally:
        sys.argv = before
