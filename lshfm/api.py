"""The same things as the commands do, as functions. What needs torch is imported once a function is called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

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
) -> Predictor:
    """A trained network for use: `.model`, `.classes`, `.transform`, `.predict(images)` and `.features(images)`.

    path_or_name: a checkpoint of lshfm (its path, or its name in `checkpoint_dir`) or of the published code, a
    .safetensors or an .onnx file that lshfm exported; an ONNX file gives `predict` alone. device: without it the first
    GPU if there is one. classes, size: of files that do not name them. network: the class of a network of your own,
    called with num_classes and the settings in the file; or config_dir, the folder that holds its YAML file. fast:
    bf16 on a GPU.

    Nothing in the file ever runs. Raises InputError for a file that cannot be used.
    """
    from lshfm.shipping.load import load as opened

    return opened(
        path_or_name, device=device, classes=classes, size=size, network=network, checkpoint_dir=checkpoint_dir,
        config_dir=config_dir, fast=fast,
    )  # fmt: skip
