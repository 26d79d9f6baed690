"""An exported ONNX file in ONNX Runtime."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lshfm.datasets.checks import contents
from lshfm.datasets.split import Pixels
from lshfm.errors import InputError
from lshfm.shipping.description import Description
from lshfm.shipping.detector import Detector, Found
from lshfm.shipping.optional import library
from lshfm.shipping.pictures import OwnSize
from lshfm.shipping.predictor import Ending, Predictor, Transform


def open_onnx(path: Path, device: torch.device | None = None) -> "OnnxPredictor | OnnxDetector":
    """The network in a file that lshfm exported. Raises InputError."""
    session, described = open_session(path, device)
    return OnnxDetector(session, described) if described.gives_boxes else OnnxPredictor(session, described)


def open_session(path: Path, device: torch.device | None = None, threads: int = 0) -> tuple[Any, Description]:
    """ONNX Runtime's session of a file, and what the file says. threads: of the CPU, 0 for as many as there are cores.

    Raises InputError.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file. {contents(path.parent)}")
    runtime = library("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    providers = ["CUDAExecutionProvider"] * (device is not None and device.type == "cuda") + ["CPUExecutionProvider"]
    usable = [each for each in providers if each in runtime.get_available_providers()]
    try:
        session = runtime.InferenceSession(str(path), options, providers=usable)
        metadata = session.get_modelmeta().custom_metadata_map
    except Exception as error:
        raise InputError(f"{path}: ONNX Runtime cannot open it: {str(error).splitlines()[0]}") from error
    return session, Description.read(metadata, path)


def no_module() -> InputError:
    """The error where a file's module is asked for."""
    return InputError("an ONNX file gives predict alone, no module: load the checkpoint for that")


class OnnxPredictor(Predictor):
    """A classifier in an ONNX file: `predict`, and `features` where it was exported with feature=true."""

    def __init__(self, session: Any, described: Description) -> None:
        transform = Transform(described.size, tuple(described.mean), tuple(described.std), described.fit)
        super().__init__(described.classes, transform, described.decisions)
        self.described = described
        self._session = session

    @classmethod
    def open(cls, path: Path, device: torch.device | None = None, threads: int = 0) -> "OnnxPredictor":
        """Open a file. threads: of the CPU, 0 for as many as there are cores. Raises InputError."""
        return cls(*open_session(path, device, threads))

    @property
    def model(self) -> Any:
        """Raises InputError: there is no module to have."""
        raise no_module()

    def begin(self, pixels: Pixels, *, features: bool) -> Ending:
        """Probabilities, logits where the file gives them, and the feature where it has one; done at once."""
        if features and "feature" not in self.described.outputs:
            raise InputError("this file gives no feature: export it with feature=true, or load the checkpoint")
        images = pixels if self.described.input == "uint8" else self.transform.normalised(pixels).numpy()
        (name,) = (each.name for each in self._session.get_inputs())
        found = self.run({name: images})
        feature = found.get("feature") if features else None
        if "probabilities" in found:
            return lambda: (found["probabilities"].astype(np.float64), None, feature)
        return lambda: (self.decisions.probabilities(found["logits"]), found["logits"], feature)

    def run(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """The outputs by name, float32."""
        names = [each.name for each in self._session.get_outputs()]
        values = self._session.run(names, inputs)
        return {name: value.astype(np.float32) for name, value in zip(names, values, strict=True)}


class OnnxDetector(Detector):
    """A detector in an ONNX file, which takes one picture at a time."""

    def __init__(self, session: Any, described: Description) -> None:
        transform = OwnSize(described.size, tuple(described.mean), tuple(described.std))
        super().__init__(
            described.classes, transform, category_ids=described.category_ids or (),
            saw_only_its_data=described.from_random,
        )  # fmt: skip
        self.described = described
        self._session = session

    @property
    def model(self) -> Any:
        """Raises InputError: there is no module to have."""
        raise no_module()

    def detect(self, pictures: Sequence[Pixels]) -> list[Found]:
        """What is found in each picture."""
        return [self.run(pixels if self.described.input == "uint8" else self._normalised(pixels))
                for pixels in pictures]  # fmt: skip

    def _normalised(self, pixels: Pixels) -> NDArray[np.float32]:
        images: NDArray[np.float32] = self.transform.normalised(pixels, torch.device("cpu")).numpy()
        return images

    def run(self, image: NDArray[Any]) -> Found:
        """What is found in an image as the file takes it."""
        (name,) = (each.name for each in self._session.get_inputs())
        boxes, scores, labels = self._session.run(["boxes", "scores", "labels"], {name: image})
        return Found(boxes, scores, labels)
