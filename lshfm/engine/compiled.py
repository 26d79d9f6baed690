"""Networks compiled for the one shape that training has; everything else goes through them as they are."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lshfm.console import logger
from lshfm.engine.snapshot import Snapshot
from lshfm.engine.state import State
from lshfm.ranks.group import all_gather

Compiler = Callable[[Callable[[Tensor], Any]], Callable[[Tensor], Any]]


def inductor(function: Callable[[Tensor], Any]) -> Callable[[Tensor], Any]:
    """torch.compile for fixed shapes."""
    compiled: Callable[[Tensor], Any] = torch.compile(function, dynamic=False)
    return compiled


class Compiled(nn.Module):
    """A module whose calls with images of the first shape are compiled; those of another shape are not.

    The module itself stays as it is: its state dict has no other names, and evaluations call it uncompiled.
    """

    def __init__(self, module: nn.Module, compiler: Compiler = inductor) -> None:
        super().__init__()
        self.module = module
        self._compiled: Callable[[Tensor], Any] | None = compiler(lambda images: module(images))
        self._shape: torch.Size | None = None

    def forward(self, images: Tensor) -> Any:
        """As the module's."""
        self._shape = self._shape or images.shape
        if self._compiled is None or images.shape != self._shape:
            return self.module(images)
        return self._compiled(images)

    def give_up(self) -> None:
        """From here on nothing is compiled."""
        self._compiled = None


class CheckedStep:
    """A step with compiled networks: before it is done, its forward and backward are tried, and leave no trace.

    Where compiling fails at any rank, all ranks go on uncompiled, and the log says why.
    """

    def __init__(self, step: Callable[[Any, float], dict[str, Tensor]], state: State, parts: int) -> None:
        self.step, self.state, self.parts = step, state, parts
        self._generation: int | None = None

    def __call__(self, batch: Any, lr: float) -> dict[str, Tensor]:
        """The losses of the step."""
        if self._generation != self.state.generation and self.state.compiled:
            self._try(batch)
        self._generation = self.state.generation
        return self.step(batch, lr)

    def _try(self, batch: Any) -> None:
        before, fault = Snapshot(self.state), ""
        try:
            with self.state.gradients(last=False):
                torch.stack(list(self.state.objective(batch.split(self.parts)[0]).values())).sum().backward()  # type: ignore[no-untyped-call]
        except Exception as error:  # noqa: BLE001 - compilers raise nearly anything
            fault = (str(error).strip() or type(error).__name__).splitlines()[0]
        finally:
            before.restore()
        faults = [each for each in all_gather(fault, in_step=True) if each]
        if faults:
            logger.warning("the networks go uncompiled: %s", faults[0])
            give_up(self.state.compiled)


def give_up(networks: Sequence[Compiled]) -> None:
    """Compile none of them."""
    for network in networks:
        network.give_up()
