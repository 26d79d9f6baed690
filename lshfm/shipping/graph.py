"""What is exported as a graph, and what comes back from an exported file, both as modules."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lshfm.shipping.description import Description

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Shipped(nn.Module):
    """A network as other programs call it: images to its output, with the feature as a second one where asked for.

    Images are float32 (B, 3, S, S), normalised, and the output logits; or uint8 (B, S, S, 3), RGB, and the output
    probabilities. Outputs are float32 whatever the weights are.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, described: Description) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        self.dtype = DTYPES.get(described.precision, torch.float32)
        self.is_raw = described.input == "uint8"
        self.gives_feature = "feature" in described.outputs
        self.activation, self.temperature = described.activation, described.temperature
        for name in ("mean", "std"):
            values = torch.tensor(getattr(described, name), dtype=torch.float32).view(3, 1, 1)
            self.register_buffer(name, values, persistent=False)
        self.network.to(self.dtype)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """(B, 3, S, S) or (B, S, S, 3) -> (B, C), or that and (B, D)."""
        if self.is_raw:
            images = ((images.permute(0, 3, 1, 2).to(torch.float32) / 255.0) - self.mean) / self.std
        feature, logits = self.network(images.to(self.dtype))
        output = logits.to(torch.float32)
        if self.is_raw:
            scaled = output / self.temperature
            output = scaled.sigmoid() if self.activation == "sigmoid" else scaled.softmax(1)
        return (output, feature.to(torch.float32)) if self.gives_feature else output

    def example(self, size: int) -> Tensor:
        """Images of the kind that it takes, two of them: one would be taken for the only number there can be."""
        return torch.zeros(2, size, size, 3, dtype=torch.uint8) if self.is_raw else torch.zeros(2, 3, size, size)


class Returned(nn.Module):
    """A file's graph as evaluation calls a network: normalised images (B, 3, S, S) -> (feature, logits).

    run: images, as the file takes them, to its outputs by name. A feature that the file does not give is (B, 0).
    """

    def __init__(self, run: Callable[[NDArray[Any]], dict[str, NDArray[np.float32]]], described: Description) -> None:
        super().__init__()
        self.run = run
        self.described = described

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) -> (B, D), (B, C)."""
        found = self.run(self.given(images))
        logits = found["logits"] if "logits" in found else self._logits(found["probabilities"])
        feature = found.get("feature", np.empty((len(images), 0), np.float32))
        return torch.from_numpy(feature), torch.from_numpy(logits)

    def given(self, images: Tensor) -> NDArray[Any]:
        """Normalised images as the file takes them; pixels are whole numbers, so they come back exactly."""
        if self.described.input != "uint8":
            return images.contiguous().numpy()
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (self.described.mean, self.described.std))
        pixels = ((images * std + mean) * 255).round().to(torch.uint8)
        return np.ascontiguousarray(pixels.permute(0, 2, 3, 1).numpy())

    def _logits(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits whose activation these are; fp32 keeps no more of them than of a probability near 0 or 1."""
        p = np.clip(probabilities.astype(np.float64), 1e-30, 1 - 1e-7)
        values = np.log(p / (1 - p)) if self.described.activation == "sigmoid" else np.log(p)
        result: NDArray[np.float32] = (values * self.described.temperature).astype(np.float32)
        return result
