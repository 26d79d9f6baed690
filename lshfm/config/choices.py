"""The options that were chosen for a command's groups, and whether it takes them."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from omegaconf import DictConfig

from lshfm.config import schema
from lshfm.errors import InputError


def role_of(group: str) -> str:
    """The key that a group fills: model@student fills student."""
    return group.rpartition("@")[2]


def check_choices(command: str, config: DictConfig, choices: Mapping[str, Any]) -> None:
    """Hydra also takes a list of a group's options; only mimic's losses can be several."""
    chosen = {role_of(group): option for group, option in choices.items()}
    groups = [f.name for f in fields(schema.COMMANDS[command]) if f.metadata["text"] == schema.A_GROUP]
    for group in groups:
        if config.get(group) is not None and not isinstance(chosen.get(group), str):
            raise InputError(f"{group}: takes one option, not a list")
        if config.get(group) is not None and not isinstance(config[group], DictConfig):
            raise InputError(f"{group}={chosen[group]}: its file must hold keys, as _target_: package.module.Name")
    for role, wanted in schema.KINDS.get(command, {}).items():
        found = kinds(config[role])
        options = chosen[role] if isinstance(chosen[role], list) else [chosen[role]]
        if len(found) < len(options):
            raise InputError(f"{role}={','.join(options)}: a loss's name takes keys, as {role}.{options[0]}.weight=2")
        for name, kind in found.items():
            if kind not in wanted:
                takes = f"lshfm {command} takes a {' or '.join(wanted)} loss as {role}"
                raise InputError(f"{role}={name} is a {kind} loss; {takes}")


def kinds(loss: DictConfig) -> dict[str, str]:
    """The kind of each loss: a label loss says it at its top, mimicking losses in a node each."""
    if "_target_" in loss:
        return {loss.get("name", "it"): loss.get("kind", "label")}
    return {str(name): node.kind for name, node in loss.items() if _is_loss(node)}


def _is_loss(node: Any) -> bool:
    """Whether a node is one of mimic's losses, with terms to build."""
    terms = node.get("terms") if isinstance(node, DictConfig) and "kind" in node else None
    return isinstance(terms, DictConfig) and all(isinstance(term, DictConfig) for term in terms.values())
