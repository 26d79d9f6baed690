"""The formats that a detector is exported in, and why there are no others."""

import copy
import io
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lshfm.shipping.description import BOX_OUTPUTS, KEY, Description
from lshfm.shipping.detector import Found
from lshfm.shipping.formats import Format, Save, explained, make_safetensors, read_safetensors
from lshfm.shipping.onnx import OnnxDetector, open_session
from lshfm.shipping.optional import library

SMALLEST_EXAMPLE = 64  # pixels of a side, of the image that a graph is recorded with


class ShippedDetector(nn.Module):
    """A detector as other programs call it: one image to boxes (k, 4), scores (k,) and labels (k,), best first.

    The image is float32 (3, h, w), normalised, or uint8 (h, w, 3), RGB, of any size. Boxes are in its pixels, labels
    are places in the list of classes, from 0.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, described: Description) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        self.is_raw = described.input == "uint8"
        for name in ("mean", "std"):
            values = torch.tensor(getattr(described, name), dtype=torch.float32).view(3, 1, 1)
            self.register_buffer(name, values, persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(3, h, w) or (h, w, 3) -> (k, 4), (k,), (k,)."""
        if self.is_raw:
            image = (image.permute(2, 0, 1).to(torch.float32) / 255.0 - self.mean) / self.std
        (found,) = self.network([image])
        return found["boxes"], found["scores"], found["labels"] - 1

    def example(self, size: int) -> Tensor:
        """An image of the kind that it takes, with something in it: what is recorded must find objects."""
        side = max(size, SMALLEST_EXAMPLE)
        shape = (side, side + side // 4, 3) if self.is_raw else (3, side, side + side // 4)
        pixels = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        return (255 * pixels).to(torch.uint8) if self.is_raw else 4 * pixels - 2


def make_onnx(network: nn.Module, described: Description) -> Save:
    """An ONNX file for one image of any size, its description among its metadata."""
    onnx = library("onnx")
    shipped = ShippedDetector(network, described).eval()
    buffer = _recorded(shipped, described)
    model = onnx.load_model_from_string(buffer)

    def save(path: Path, described: Description) -> None:
        del model.metadata_props[:]
        model.metadata_props.add(key=KEY, value=described.text())
        path.write_bytes(model.SerializeToString())

    return save


def _recorded(shipped: ShippedDetector, described: Description) -> bytes:
    """The graph by torch's exporter of recorded programs, which torchvision's detectors are written for."""
    sides = {0: "height", 1: "width"} if shipped.is_raw else {1: "height", 2: "width"}
    found = {name: {0: "detections"} for name in BOX_OUTPUTS}
    buffer: Any = io.BytesIO()  # a path to torch's annotations alone
    with explained("onnx", described.title), warnings.catch_warnings(action="ignore"), torch.no_grad():
        torch.onnx.export(
            shipped, (shipped.example(described.size),), buffer, dynamo=False, input_names=["image"],
            output_names=BOX_OUTPUTS, dynamic_axes={"image": sides, **found}, opset_version=described.opset,
        )  # fmt: skip
    graph: bytes = buffer.getvalue()
    return graph


class ReturnedDetector(nn.Module):
    """A file's graph as evaluation calls a detector: normalised images (3, h, w) -> detections of each."""

    def __init__(self, run: Callable[[NDArray[Any]], Found], described: Description) -> None:
        super().__init__()
        self.run, self.described = run, described

    def forward(self, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """As torchvision's detectors, whose classes count from 1."""
        return [_as_theirs(self.run(self.given(image))) for image in images]

    def given(self, image: Tensor) -> NDArray[Any]:
        """A normalised image as the file takes it; pixels are whole numbers, so they come back exactly."""
        if self.described.input != "uint8":
            return np.ascontiguousarray(image.numpy())
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (self.described.mean, self.described.std))
        return np.ascontiguousarray(((image * std + mean) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())


def _as_theirs(found: Found) -> dict[str, Tensor]:
    boxes, scores, labels = map(torch.from_numpy, found)
    return {"boxes": boxes, "scores": scores, "labels": labels + 1}


def read_onnx(path: Path, _network: nn.Module, described: Description) -> nn.Module:
    """The file in ONNX Runtime, on a CPU."""
    detector = OnnxDetector(*open_session(path, threads=torch.get_num_threads()))
    return ReturnedDetector(detector.run, described)


BOX_FORMATS = {
    "onnx": Format(".onnx", False, make_onnx, read_onnx),
    "safetensors": Format(".safetensors", False, make_safetensors, read_safetensors),
}
WHY_NOT = {
    "pt2": "torch.export follows no program whose number of proposals depends on the image",
    "torchvision": "torchvision's own detectors are built with other settings, so that its file would find other boxes",
    "timm": "timm has no detectors",
    "published": "the published code reads its checkpoints with the state of an optimiser, which an export has not",
}
