"""Refuses input that would keep Hydra busy for ever: users' YAML files, arguments and sweeps of excessive size."""

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, RangeSweep
from hydra.errors import HydraException

from lshfm.config import CONF_DIR
from lshfm.errors import InputError

_MOST_NODES = 100_000
DEEPEST, MOST_DIGITS, MOST_JOBS = 100, 4000, 10_000


def check_files(folders: Iterable[Path]) -> None:
    """InputError for a YAML file that expands without end, and for a broken option whose file Hydra would not name.

    All other faults are left for Hydra to report.
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
    """Number of values in a node, those behind an alias counted at each use; infinite if a node contains itself."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        known[id(node)] = math.inf
        parts = [part for entry in node.value for part in (entry if isinstance(entry, tuple) else (entry,))]
        known[id(node)] = 1 + sum(_size(part, known) for part in parts)
    return known[id(node)]


def parses(word: str) -> bool:
    """Whether Hydra's grammar takes an override as it stands."""
    try:
        OverridesParser.create().parse_override(word)
    except HydraException:
        return False
    return True


def require_readable(word: str) -> None:
    """InputError for an argument nested too deeply (Hydra's parser is recursive) or a number of too many digits."""
    if re.search(rf"[\d_]{{{MOST_DIGITS + 1}}}", word):
        raise InputError(f"{word[:40]}...: a number of more than {MOST_DIGITS} digits")
    depth = deepest = 0
    for bracket in re.findall(r"[\[{(\]})]", word):
        depth += 1 if bracket in "[{(" else -1
        deepest = max(deepest, depth)
    if deepest > DEEPEST:
        raise InputError(f"{word[:40]}...: {deepest} brackets within each other; {DEEPEST} are the most")


def require_countable(overrides: Sequence[str]) -> None:
    """InputError for a sweep of too many jobs: Hydra lists all of them in memory before the first one starts."""
    require_few(math.prod(_num_values(word) for word in overrides if parses(word)))


def require_few(jobs: int) -> None:
    """InputError for a sweep of more jobs than MOST_JOBS."""
    if jobs > MOST_JOBS:
        raise InputError(f"this sweep would be {jobs} jobs; {MOST_JOBS} are the most")


def _num_values(override: str) -> int:
    sweep = OverridesParser.create().parse_override(override).value()
    if isinstance(sweep, RangeSweep):
        start, stop, step = (float(bound or 0) for bound in (sweep.start, sweep.stop, sweep.step))
        count = (stop - start) / step if step else 1  # Hydra says what is wrong with a step of 0
        return max(math.ceil(count), 1) if math.isfinite(count) else MOST_JOBS + 1
    return len(sweep.list) if isinstance(sweep, ChoiceSweep) else 1
