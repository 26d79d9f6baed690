"""The same things as the commands do, as functions. What needs torch is imported once a function is called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lshfm import console

if TYPE_CHECKING:
    import torch
    from torch import nn

    from lshfm.runs.record import Results
    from lshfm.shipping.detector import Detector
    from lshfm.shipping.predictor import Predictor


def load(
    path_or_name: str | Path,
    device: str | torch.device | None = None,
    *,
    classes: Sequence[str] | None = None,
    size: int | None = None,
    network: Callable[..., nn.Module] | None = None,
    checkpoint_dir: str | Path = "checkpoints",
    config_dir: str | Path | None = None,
    fast: bool = False,
) -> Predictor | Detector:
    """A trained network for use: `.model`, `.classes`, `.transform`, `.predict(images)` and `.features(images)`.

    A detector's `predict` gives for each picture its `.objects` (label, score, box), best first; it has no `features`.

    path_or_name: a checkpoint of lshfm (its path, or its name in `checkpoint_dir`) or of the published code, a
    .safetensors or an .onnx file that lshfm exported; an ONNX file gives `predict` alone. device: without it the first
    GPU if there is one. classes, size: of files that do not name them; how such a file normalises its pixels is not
    known either, and is taken as by ImageNet's mean and standard deviation. network: the class of a network of your
    own, called with num_classes and the settings in the file; or config_dir, the folder that holds its YAML file.
    fast: bf16 on a GPU.

    Nothing in the file ever runs. Raises InputError for a file that cannot be used.
    """
    from lshfm.shipping.load import load as opened

    return opened(
        path_or_name, device=device, classes=classes, size=size, network=network, checkpoint_dir=checkpoint_dir,
        config_dir=config_dir, fast=fast,
    )  # fmt: skip


def train(*, config_dir: str | Path | None = None, **settings: Any) -> Results:
    """As `lshfm train`: train, continue, or read a finished run, and return its record (results.json).

    settings: the command's keys, as `lr=0.1`, `dataset="voc2007"`, `**{"dataset.root": "..."}`, or nested, as
    `dataset={"option": "voc2007", "root": "..."}`. config_dir: a folder with options of your own. Several ranks work
    as there, as gpus=[0, 1].

    Raises InputError for settings that cannot be used and RunFailed for a run that fails; both are LshfmError.
    """
    from lshfm.config.call import called

    console.set_up()
    with called("train", settings, config_dir) as arguments:
        from lshfm.commands.train import run

        return _record(run(*arguments))


def mimic(*, config_dir: str | Path | None = None, **settings: Any) -> Results:
    """As `lshfm mimic`; returns the record of the last stage. Settings and errors as of `train`."""
    from lshfm.config.call import called

    console.set_up()
    with called("mimic", settings, config_dir) as arguments:
        from lshfm.commands.mimic import run

        return _record(run(*arguments))


def eval(*, config_dir: str | Path | None = None, **settings: Any) -> Results:
    """As `lshfm eval`; returns the evaluation's record. Settings and errors as of `train`."""
    from lshfm.config.call import called

    console.set_up()
    with called("eval", settings, config_dir) as arguments:
        from lshfm.commands.eval import run

        return _record(run(*arguments))


def _record(folder: Path) -> Results:
    from lshfm.runs.record import Results

    return Results.read(folder / "results.json")
