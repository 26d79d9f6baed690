"""predictions.npz: an evaluation's arrays, such as ids, logits and targets, with a row for every image."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lshfm.files.write import write_bytes
from lshfm.tasks.task import Arrays


def write_predictions(path: Path, arrays: Arrays, classes: Sequence[str]) -> None:
    """Write an evaluation's arrays, a row an image, and the names of the classes. Raises RunFailed on a full disk."""
    buffer = io.BytesIO()
    np.savez(buffer, **(arrays | {"classes": np.array(classes)}))  # type: ignore[arg-type]
    write_bytes(path, buffer)
