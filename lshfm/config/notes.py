"""What the log says of settings before a run: of recipes, used and unused."""

from collections.abc import Sequence

from lshfm.config.changes import changes_results, flatten
from lshfm.config.compose import compose_unchecked
from lshfm.config.help import resolved
from lshfm.config.recipes import published_pairs
from lshfm.config.schema import Mimic, Training
from lshfm.config.words import for_stage, typed_keys


def unused_recipes(settings: Mimic, overrides: Sequence[str]) -> list[str]:
    """For each recipe of this teacher, student and data set that was not asked for: what it would set."""
    student = settings.student
    if settings.recipe or not all((settings.dataset.option, settings.teacher.option, student.option)):
        return []
    names = published_pairs(settings.dataset.option, settings.teacher.option, student.option, student.pool)
    return [f"experiment={name} is published for this pair; {_would_set(settings, overrides, name)}" for name in names]


def _would_set(settings: Mimic, overrides: Sequence[str], recipe: str) -> str:
    words = for_stage(str(settings.stage.name), overrides)
    now, then = (
        flatten(resolved(compose_unchecked("mimic", [*words, *more])[0])) for more in ([], [f"experiment={recipe}"])
    )
    differs = {key: value for key, value in then.items() if now.get(key) != value and changes_results("mimic", key)}
    others = {key: value for key, value in differs.items() if not key.startswith(("recipe.", "published."))}
    if not others:
        return "it would set nothing else"
    return f"it would set {' '.join(f'{key}={value}' for key, value in others.items())}. Values stay as they are"


def published_groups(settings: Training, overrides: Sequence[str]) -> list[str]:
    """That BatchNorm's statistics are over as many images as in the published run, where the recipe says so."""
    size, recipe = settings.bn_group_size, settings.recipe
    if not size or not isinstance(recipe, dict) or "bn_group_size" in typed_keys(overrides):
        return []
    on = f" on {recipe['hardware']}" if "hardware" in recipe else ""
    return [f"bn_group_size={size}: BatchNorm's statistics are over {size} images, as published{on}"]
