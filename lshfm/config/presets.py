"""What a data set's preset, or its task, chooses where nobody did."""

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf


def chosen_by_presets(overrides: Sequence[str], config: DictConfig, choices: Mapping[str, Any]) -> list[str]:
    """The overrides that choose what the data set's preset or task names and nobody chose."""
    if choices.get("experiment") or not config.get("dataset"):
        return []
    asked = {group: preset_of(config.dataset, group.partition("@")[0]) for group in choices}
    return [
        f"{group}='{option}'" for group, option in asked.items()
        if option and not any(word.startswith(f"{group}=") for word in overrides)
    ]  # fmt: skip


def preset_of(dataset: DictConfig, group: str) -> str | None:
    """The option of label_loss, loss or stage that a data set's preset names, else its task; None for others."""
    presets = dataset.get("preset")
    if group not in ("label_loss", "loss", "stage") or not isinstance(presets, DictConfig):
        return None
    of_task = OmegaConf.select(presets, f"of_task.{dataset.get('task')}.{group}")
    option = presets.get(group) or of_task
    return None if option is None else str(option)
