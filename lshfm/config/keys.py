"""How the schema declares keys (range, choices, line of help) and groups, and how settings become plain values."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

A_GROUP = "see the group"


def key(
    text: str,
    *,
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
    below: float | None = None,
    choices: tuple[str, ...] = (),
    example: str = "",
    changes_results: bool = True,
) -> Any:
    """A config key: `low`/`high` bound it inclusively, `above`/`below` exclusively.

    example: what is said beside a value out of range.
    changes_results: False for keys that leave every number as it is; these neither enter a run's name nor
    stop a run from being continued.
    """
    limits = {"low": low, "above": above, "high": high, "below": below, "choices": choices, "example": example}
    return field(default="???", metadata={"text": text, "changes_results": changes_results, **limits})


def group(*, changes_results: bool = True) -> Any:
    """A key whose value is an option of a group."""
    return key(A_GROUP, changes_results=changes_results)


def part() -> Any:
    """A field that bundles keys which only some options of a group have; None for the others.

    In conf/ the keys lie flat in the group's node, beside the others.
    """
    return field(default=None, metadata={"is_part": True, "text": ""})


def unlisted() -> Any:
    """A key that options of a group may lack, and then is None; help lists it among an option's own keys."""
    return field(default=None, metadata=key("").metadata)


@dataclass(frozen=True)
class Group:
    """An option chosen from a group of conf/; `own` holds its keys that the class does not declare.

    Where nothing was chosen, `option` is None and so is every key.
    """

    option: Any = field(default=None, metadata={"is_inner": True})  # its name; a list of names for several losses
    own: dict[str, Any] = field(default_factory=dict, metadata={"is_inner": True})  # `_target_` and its arguments

    @property
    def target(self) -> str | None:
        """The class or function that builds it, as package.module.Name."""
        return self.own.get("_target_")

    @property
    def title(self) -> str:
        """Its name in logs and names of runs: the key `name`, else the option's."""
        return str(getattr(self, "name", None) or self.option)

    def plain(self) -> dict[str, Any] | None:
        """The node as conf/ has it; None where nothing was chosen and no key set."""
        values: dict[str, Any] = {}
        for each in key_fields(type(self)):
            value = getattr(self, each.name)
            if each.metadata.get("is_part"):
                values |= plain(value) if value else {}
            elif value is not None or each.metadata["text"]:
                values[each.name] = value
        is_there = self.option or self.own or any(value is not None for value in values.values())
        return values | self.own if is_there else None

    def without_code(self) -> dict[str, Any]:
        """The node without any `_target_`, as checkpoints keep it."""
        return without_code(self.plain() or {})


def key_fields(keys: type) -> list[Any]:
    """The fields of a class that stand for keys."""
    return [each for each in fields(keys) if not each.metadata.get("is_inner")]


def plain(settings: Any) -> dict[str, Any]:
    """Settings nested as conf/ nests them: what is written down, compared and hashed."""
    values: dict[str, Any] = {}
    for each in key_fields(type(settings)):
        value = getattr(settings, each.name)
        is_keys = is_dataclass(value) and not isinstance(value, Group)
        values[each.name] = value.plain() if isinstance(value, Group) else plain(value) if is_keys else value
    return values


def options_of(settings: Any) -> dict[str, Any]:
    """The option that was chosen in each group of the settings; None where none was."""
    values = {each.name: getattr(settings, each.name) for each in key_fields(type(settings))}
    return {name: value.option for name, value in values.items() if isinstance(value, Group)}


def without_code(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values without any `_target_`: a file never picks code to run."""
    return {
        name: without_code(value) if isinstance(value, Mapping) else value
        for name, value in values.items()
        if name != "_target_"
    }


# Keys whose values are paths, in which ~ stands for a home.
PATHS = frozenset(
    {"checkpoint", "input", "images", "file", "output_dir", "checkpoint_dir"}
    | {"dataset.root", "dataset.cache_dir", "dataset.names"}
    | {"model.weights", "student.weights", "student.init", "teacher.path"}
)

# Where the data lies and what things are called: no influence on any number.
NEUTRAL = frozenset(
    {"dataset.root", "dataset.name", "dataset.annotations", "dataset.images", "dataset.lists", "dataset.download"}
    | {f"{group}.name" for group in ("model", "teacher", "student", "loss", "label_loss")}
)
