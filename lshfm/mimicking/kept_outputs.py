"""A teacher's evaluation and outputs on a split, kept with a run so that going on does not compute them again."""

import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lshfm import __version__
from lshfm.console import logger
from lshfm.datasets.loader import Loader
from lshfm.datasets.split import Split
from lshfm.engine.state import Evaluation
from lshfm.files.parse import parse_json
from lshfm.files.write import write_bytes_of
from lshfm.tasks.task import Arrays

ABOUT = ("key", "evaluation", "sha256")  # entries of the file that are no arrays of the evaluation


@dataclass(frozen=True)
class KeptOutputs:
    """A file for a teacher's outputs on one split. key: all that they depend on, as plain values."""

    path: Path
    key: Mapping[str, Any]
    num_images: int

    def read(self) -> tuple[Evaluation, Arrays] | None:
        """What `write` wrote; None where there is nothing, or nothing whole of this key, as the log then says."""
        if not self.path.is_file():
            return None
        try:
            with self.path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                content = {name: file[name] for name in file.files}
            fault = self._fault(content)
            if fault is None:
                return _evaluation(content), {name: content[name] for name in content if name not in ABOUT}
        except (OSError, ValueError, KeyError, TypeError, EOFError, MemoryError, zipfile.BadZipFile):
            fault = "cannot be read"
        logger.info("the teacher's outputs in %s are computed anew: the file %s", self.path, fault)
        return None

    def _fault(self, content: Mapping[str, np.ndarray]) -> str | None:
        """Why a file's content is of no use, as a clause that continues its name."""
        there = parse_json(str(content["key"]))
        if differing := sorted(
            name for name in there.keys() | self.key.keys() if there.get(name) != self.key.get(name)
        ):
            return f"is of another {', '.join(differing)}"
        arrays = {name: values for name, values in content.items() if name not in ABOUT}
        if any(len(values) != self.num_images for values in arrays.values()) or "features" not in arrays:
            return f"does not hold the {self.num_images} images"
        if not all(np.isfinite(values).all() for values in arrays.values() if values.dtype.kind == "f"):
            return "holds values that are not finite"
        return None if str(content["sha256"]) == _sha256(content) else "is damaged"

    def write(self, evaluation: Evaluation, arrays: Arrays) -> None:
        """Keep an evaluation and its arrays, a row an image. Raises RunFailed on a full disk."""
        content: dict[str, np.ndarray] = {
            **arrays, "key": np.array(json.dumps(self.key)), "evaluation": np.array(json.dumps(asdict(evaluation)))
        }  # fmt: skip
        content["sha256"] = np.array(_sha256(content))
        write_bytes_of(self.path, lambda file: np.savez(file, **content))  # type: ignore[arg-type]


def _evaluation(content: Mapping[str, np.ndarray]) -> Evaluation:
    said = parse_json(str(content["evaluation"]))
    return Evaluation(**said | {"unchanging": tuple(said["unchanging"])})


def _sha256(content: Mapping[str, np.ndarray]) -> str:
    total = hashlib.sha256()
    for name in sorted(content.keys() - {"sha256"}):
        values = np.ascontiguousarray(content[name])
        total.update(f"{name} {values.dtype.str} {values.shape}".encode())
        total.update(values.tobytes() if values.ndim == 0 else values.reshape(-1).view(np.uint8).data)
    return total.hexdigest()


def outputs_key(
    teacher: str, normalisation: Any, precision: str, split: Split, loader: Loader, pixels: str, task: str,
    metric: str, constants: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """What a teacher's outputs on a loader's images, and their evaluation, depend on.

    teacher: SHA-256 of its weights. normalisation: from the student's pixels to its own. pixels: the key of the
    split's pixels. constants: as Task.constants.
    """
    images = np.ascontiguousarray(loader.indices)
    view = loader.view
    return {
        "teacher": teacher,
        "normalisation": None if normalisation is None else [list(numbers) for numbers in normalisation],
        "precision": precision,
        "data": split.fingerprint(),
        "pixels": pixels,
        "images": hashlib.sha256(images.tobytes()).hexdigest(),
        "view": [list(view.mean), list(view.std), view.channels_last],
        "task": task,
        "metric": metric,
        "device": loader.device.type,
        "torch": str(torch.__version__),
        "lshfm": __version__,
        **{f"teacher.{name}": value for name, value in constants.items()},
    }
