"""The settings of an evaluation: a checkpoint's, wherever the user gave none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lshfm.config.compose import Job, check_alone, compose, peek
from lshfm.config.early import checkpoint_file, require_devices
from lshfm.config.schema import Eval
from lshfm.config.words import typed_keys

DEFAULTS: dict[str, Any] = {"eval_batch_size": 64, "precision": "fp32", "channels_last": False}


def compose_eval(
    overrides: Sequence[str], options: Mapping[str, str], saved: Mapping[str, Any], typed: Sequence[str] = ()
) -> Job[Eval]:
    """The job that overrides ask for; the network starts from no weights, for it takes the checkpoint's own.

    options: the checkpoint's options of the groups dataset and model. saved: its settings under dotted keys. typed:
    the command line. Raises InputError as `compose` does.
    """
    given = typed_keys(overrides)
    # Hydra knows these keys now that the options are there: a misspelt one is refused.
    words = [word.removeprefix("++") if word.startswith(("++dataset.", "++model.")) else word for word in overrides]
    chosen = [f"{group}={option}" for group, option in options.items() if group not in given]
    job = compose(Eval, chosen + words, DEFAULTS | dict(saved), typed=typed)
    return replace(job, settings=replace(job.settings, model=job.settings.model.with_weights("none")))


@dataclass(frozen=True)
class Request:
    """An evaluation as it was asked for; what was not typed is the checkpoint's to say.

    overrides: as Hydra takes them. typed: the command line.
    """

    checkpoint: Path
    named: str  # what was typed for it
    overrides: tuple[str, ...]
    typed: tuple[str, ...] = ()

    @property
    def given(self) -> set[str]:
        """The keys and groups that were named."""
        return typed_keys(self.overrides)

    def job(self, options: Mapping[str, str], saved: Mapping[str, Any]) -> Job[Eval]:
        """The job, as `compose_eval` makes it of what the checkpoint names."""
        return compose_eval(self.overrides, options, saved, self.typed)


def request(overrides: Sequence[str], typed: Sequence[str] = ()) -> Request:
    """What the overrides ask for; raises InputError for what is wrong with it whatever the checkpoint holds."""
    path = _checkpoint(overrides)
    require_devices(check_alone(Eval, overrides)["gpus"])
    return Request(path, str(peek("eval", overrides, "checkpoint")), tuple(overrides), tuple(typed))


def _checkpoint(overrides: Sequence[str]) -> Path:
    """The file that checkpoint=PATH or checkpoint=NAME, of a finished run, means; it need not be there."""
    named = str(peek("eval", overrides, "checkpoint"))
    return checkpoint_file(named, Path(str(peek("eval", overrides, "checkpoint_dir"))).expanduser())
