"""The settings of an evaluation: a checkpoint's, wherever the user gave none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from lshfm.checks import require_writable
from lshfm.config.checkpoint_names import checkpoint_file
from lshfm.config.compose import Job, check_alone, compose, peek
from lshfm.config.early import (
    check_export,
    check_tuning,
    export_path,
    require_absent,
    require_devices,
    require_input,
)
from lshfm.config.schema import Eval, Export
from lshfm.config.words import typed_keys

E = TypeVar("E", Eval, Export)

DEFAULTS: dict[str, Any] = {"precision": "fp32", "channels_last": False}


def compose_with(
    keys: type[E], overrides: Sequence[str], options: Mapping[str, str], saved: Mapping[str, Any],
    typed: Sequence[str] = (),
) -> Job[E]:  # fmt: skip
    """The job that overrides ask for; the network starts from no weights, for it takes the checkpoint's own.

    options: the checkpoint's options of the groups dataset and model. saved: its settings under dotted keys. typed:
    the command line. Raises InputError as `compose` does.
    """
    given = typed_keys(overrides)
    # Hydra knows these keys now that the options are there: a misspelt one is refused.
    words = [word.removeprefix("++") if word.startswith(("++dataset.", "++model.")) else word for word in overrides]
    chosen = [f"{group}={option}" for group, option in options.items() if group not in given]
    job = compose(keys, chosen + words, saved, typed=typed)
    return replace(job, settings=replace(job.settings, model=job.settings.model.with_weights("none")))


@dataclass(frozen=True)
class Request(Generic[E]):
    """What was asked of a checkpoint; what was not typed is the checkpoint's to say.

    overrides: as Hydra takes them. typed: the command line.
    """

    checkpoint: Path
    named: str  # what was typed for it
    overrides: tuple[str, ...]
    typed: tuple[str, ...]
    keys: type[E]

    @property
    def given(self) -> set[str]:
        """The keys and groups that were named."""
        return typed_keys(self.overrides)

    def job(self, options: Mapping[str, str], saved: Mapping[str, Any]) -> Job[E]:
        """The job, as `compose_with` makes it of what the checkpoint names."""
        defaults = DEFAULTS if self.keys.command == "eval" else {}
        return compose_with(self.keys, self.overrides, options, defaults | dict(saved), self.typed)


def request(overrides: Sequence[str], typed: Sequence[str] = ()) -> Request[Eval]:
    """What the overrides ask of an evaluation; raises InputError for what is wrong whatever the checkpoint holds."""
    asked = _request(Eval, overrides, typed)
    values = check_alone(Eval, overrides)
    require_devices(values["gpus"])
    check_tuning(values["thresholds"])
    return asked


def export_request(overrides: Sequence[str], typed: Sequence[str] = ()) -> Request[Export]:
    """What the overrides ask of an export. Raises InputError as `request` does, and for a file that is there."""
    asked = _request(Export, overrides, typed)
    values = check_alone(Export, overrides)
    check_export(values)
    path = export_path(values, asked.checkpoint)
    require_absent(path, overwrite=values["overwrite"])
    require_writable(path.parent, "file")
    if values["images"]:
        require_input(values["images"], "images")
    return asked


def _request(keys: type[E], overrides: Sequence[str], typed: Sequence[str]) -> Request[E]:
    named, folder = (str(peek(keys.command, overrides, key)) for key in ("checkpoint", "checkpoint_dir"))
    return Request(checkpoint_file(named, Path(folder).expanduser()), named, tuple(overrides), tuple(typed), keys)
