"""The least time that a step can take on a machine: each layer bound by its operations or by its bytes.

Layers are convolutions and linear layers; what lies between them (BatchNorm, ReLU, additions, pooling) is taken to be
fused into them, so that each activation is written once, by the layer that makes it, and read once, by the next one.

    forward    2 P operations                          reads the input, writes the output, reads the weights
    backward   4 P (2 P where no input gradient)       reads the input and the output's gradient, writes the input's
                                                       gradient; reads the weights and writes their gradient
    update     none                                    weights, gradients and momentum: 5 passes over the parameters

P: multiplications of a layer, outputs x weights an output. A teacher, and the backbone of stage 1, go forward alone.
Time = sum over layers of max(operations / rate, bytes / bandwidth), with the rate of a dense product and the bandwidth
of a copy as measured in the same run. A bound on images a second is the batch over that time.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Work:
    """Operations and bytes of a layer for one batch."""

    operations: float
    bytes: float


@dataclass(frozen=True)
class Layer:
    """A layer as it is called: multiplications, and numbers of its input, output and weights."""

    name: str
    multiplications: int
    inputs: int
    outputs: int
    weights: int

    def forward(self, width: int) -> Work:
        """width: bytes a number."""
        return Work(2 * self.multiplications, width * (self.inputs + self.outputs + self.weights))

    def backward(self, width: int, *, is_first: bool) -> Work:
        """is_first: no gradient of its input is wanted."""
        inputs = self.inputs * (1 if is_first else 2)
        return Work((2 if is_first else 4) * self.multiplications, width * (inputs + self.outputs + 2 * self.weights))


def layers(network: nn.Module, batch: int, size: int) -> list[Layer]:
    """The convolutions and linear layers of a network in the order of their calls; nothing is computed.

    build: on the meta device. images: (batch, 3, size, size).
    """
    found: list[Layer] = []

    def seen(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
            weight = module.weight
            assert isinstance(weight, Tensor)
            per_output = weight[0].numel()
            found.append(Layer(name, output.numel() * per_output, arguments[0].numel(), output.numel(), weight.numel()))

        return hook

    hooks = [
        module.register_forward_hook(seen(name))
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    with torch.no_grad():
        network(torch.empty(batch, 3, size, size, device="meta"))
    for hook in hooks:
        hook.remove()
    return found


def forward_work(found: Iterable[Layer], width: int) -> list[Work]:
    """Of a network that does not learn."""
    return [layer.forward(width) for layer in found]


def training_work(found: list[Layer], width: int) -> list[Work]:
    """Of a network that learns, its update in fp32 included."""
    both = [
        work
        for number, layer in enumerate(found)
        for work in (layer.forward(width), layer.backward(width, is_first=number == 0))
    ]
    return [*both, Work(0, 4 * 5 * sum(layer.weights for layer in found))]


def least_seconds(work: Iterable[Work], *, operations_per_second: float, bytes_per_second: float) -> float:
    """The sum over layers of what binds each."""
    return sum(max(each.operations / operations_per_second, each.bytes / bytes_per_second) for each in work)


def bound(
    teacher: nn.Module | None, student: nn.Module, batch: int, size: int, limits: Mapping[str, float], precision: str,
    *, stage: int,
) -> float:  # fmt: skip
    """Images a second that a step of mimicking, or without a teacher of training, cannot exceed."""
    width = 2 if precision == "bf16" else 4
    own = layers(student, batch, size)
    if stage == 1:
        frozen = [layer for layer in own if layer.name not in ("projection", "classifier")]
        learnt = [layer for layer in own if layer.name == "projection"]
        work = [*forward_work(frozen, width), *training_work(learnt, width)]
    else:
        work = training_work(own, width)
    if teacher is not None:
        work += forward_work(layers(teacher, batch, size), width)
    seconds = least_seconds(
        work, operations_per_second=limits[f"{precision}_flops"], bytes_per_second=limits["copy_bytes"]
    )
    return batch / seconds
