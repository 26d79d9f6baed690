"""YAML files of the user's own, looked at before Hydra reads them."""

import math
from collections.abc import Iterable
from pathlib import Path

import yaml

from lshfm.config import CONF_DIR
from lshfm.errors import InputError

_MOST_NODES = 100_000


def check_files(folders: Iterable[Path]) -> None:
    """InputError for a file that would keep Hydra busy for ever, and for an option of which Hydra cannot say its name.

    All others are Hydra's to judge.
    """
    for folder in folders:
        for path in sorted([*folder.glob("*.yaml"), *folder.glob("*/*.yaml")]):
            try:
                node = yaml.compose(path.read_text(encoding="utf-8"), yaml.SafeLoader)
            except RecursionError as error:
                raise InputError(f"{path}: its brackets are nested too deeply") from error
            except UnicodeDecodeError as error:
                if _is_option(path):
                    raise InputError(f"{path}: not UTF-8 text: {error}") from error
                continue
            except (OSError, ValueError, yaml.YAMLError):
                continue
            if node and _is_option(path) and not _holds_keys(node):
                raise InputError(f"{path}: must hold keys, as KEY: value")
            if node and _size(node, {}) > _MOST_NODES:
                raise InputError(f"{path}: with its aliases (*NAME) filled in it has over {_MOST_NODES} values")


def _is_option(path: Path) -> bool:
    return (CONF_DIR / path.parent.name).is_dir()


def _holds_keys(node: yaml.Node) -> bool:
    return isinstance(node, yaml.MappingNode) and all(
        isinstance(key, yaml.ScalarNode) and not key.tag.endswith(":null") for key, _ in node.value
    )


def _size(node: yaml.Node, known: dict[int, float]) -> float:
    """Values in a node, those behind an alias as often as it is used; endless where a node lies in itself."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        known[id(node)] = math.inf
        parts = [part for entry in node.value for part in (entry if isinstance(entry, tuple) else (entry,))]
        known[id(node)] = 1 + sum(_size(part, known) for part in parts)
    return known[id(node)]
