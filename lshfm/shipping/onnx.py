"""An exported ONNX file in ONNX Runtime."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lshfm.datasets.checks import contents
from lshfm.datasets.split import Pixels
from lshfm.errors import InputError
from lshfm.shipping.description import Description
from lshfm.shipping.optional import library
from lshfm.shipping.predictor import Ending, Predictor, Transform


class OnnxPredictor(Predictor):
    """An ONNX file that lshfm exported: `predict`, and `features` where it was exported with feature=true."""

    def __init__(self, session: Any, described: Description) -> None:
        transform = Transform(described.size, tuple(described.mean), tuple(described.std), described.fit)
        super().__init__(described.classes, transform, described.decisions)
        self.described = described
        self._session = session

    @classmethod
    def open(cls, path: Path, device: torch.device | None = None, threads: int = 0) -> "OnnxPredictor":
        """Open a file. threads: of the CPU, 0 for as many as there are cores. Raises InputError."""
        if not path.is_file():
            raise InputError(f"{path}: no such file. {contents(path.parent)}")
        runtime = library("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        providers = ["CUDAExecutionProvider"] * (device is not None and device.type == "cuda") + [
            "CPUExecutionProvider"
        ]
        usable = [each for each in providers if each in runtime.get_available_providers()]
        try:
            session = runtime.InferenceSession(str(path), options, providers=usable)
            metadata = session.get_modelmeta().custom_metadata_map
        except Exception as error:
            raise InputError(f"{path}: ONNX Runtime cannot open it: {str(error).splitlines()[0]}") from error
        return cls(session, Description.read(metadata, path))

    @property
    def model(self) -> Any:
        """Raises InputError: there is no module to have."""
        raise InputError("an ONNX file gives predict alone, no module: load the checkpoint for that")

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
